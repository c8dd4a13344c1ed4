"""Keys: every form both ways, what is refused, and that secrets stay secret."""

import copy
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import biscuit_auth as _biscuit_auth
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from capability.errors import CapabilityError, KeyFormatError, SignatureError
from capability.keys import Algorithm, KeyPair, PrivateKey, PublicKey

# its stubs lack the PEM and DER forms
biscuit_auth: Any = _biscuit_auth

# RFC 8032, 7.1, test 2
SEED = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
# RFC 6979, A.2.5, SHA-256, message "sample"; its s is the larger of the two
P256_SCALAR = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"
P256_PUBLIC = "0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
P256_R = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
P256_S = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
FIELD = 2**255 - 19

ORDER_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03"
ODD_KEYS = {
    "y = 0": "00" * 32,
    "y = 0, sign": "00" * 31 + "80",
    "y = 1, the neutral element": "01" + "00" * 31,
    "y = 1, sign: x = 0 is not negative": "01" + "00" * 30 + "80",
    "y = -1": (FIELD - 1).to_bytes(32, "little").hex(),
    "y = -1, sign": (FIELD - 1 + 2**255).to_bytes(32, "little").hex(),
    "order 8": ORDER_8 + "7a",
    "order 8, sign": ORDER_8 + "fa",
    "order 8, other y": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, other y, sign": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "y = p": FIELD.to_bytes(32, "little").hex(),
    "y = p + 1": (FIELD + 1).to_bytes(32, "little").hex(),
    "y = p + 1, sign": (FIELD + 1 + 2**255).to_bytes(32, "little").hex(),
    "y = 2^255 - 1": "ff" * 31 + "7f",
    "y = p + 3, a point of large order": (FIELD + 3).to_bytes(32, "little").hex(),
}


@pytest.fixture(params=list(Algorithm), ids=lambda algorithm: algorithm.label)
def pair(request: pytest.FixtureRequest) -> KeyPair:
    algorithm: Algorithm = request.param
    return KeyPair(algorithm)


def test_every_form_reads_back(pair: KeyPair) -> None:
    private, public = pair.private_key, pair.public_key
    assert PrivateKey(private.text()) == private
    assert PrivateKey.from_bytes(private.to_bytes(), private.algorithm) == private
    assert PrivateKey.from_der(private.to_der()) == private
    assert PrivateKey.from_pem(private.to_pem()) == private
    assert PublicKey(repr(public)) == public == PublicKey(str(public))
    assert PublicKey.from_bytes(public.to_bytes(), public.algorithm) == public
    assert PublicKey.from_der(public.to_der()) == public
    assert PublicKey.from_pem(public.to_pem()) == public
    assert PublicKey.from_wire(public.scope.algorithm, public.scope.key) == public
    assert KeyPair.from_private_key(private).public_key == public
    assert KeyPair.from_private_key_der(private.to_der()).private_key == private
    assert KeyPair.from_private_key_pem(private.to_pem()).private_key == private
    assert len({public, PublicKey(repr(public))}) == 1
    assert len({private, PrivateKey(private.text())}) == 1


def test_biscuit_python_reads_our_keys_and_we_its(pair: KeyPair) -> None:
    theirs = biscuit_auth.PrivateKey(pair.private_key.text())
    assert repr(biscuit_auth.KeyPair.from_private_key(theirs).public_key) == repr(pair.public_key)
    assert PrivateKey(repr(theirs)) == pair.private_key
    assert repr(biscuit_auth.PrivateKey.from_pem(pair.private_key.to_pem())) == pair.private_key.text()
    assert repr(biscuit_auth.PrivateKey.from_der(pair.private_key.to_der())) == pair.private_key.text()
    assert repr(biscuit_auth.PublicKey.from_pem(pair.public_key.to_pem())) == repr(pair.public_key)
    assert repr(biscuit_auth.PublicKey.from_der(pair.public_key.to_der())) == repr(pair.public_key)


def test_a_new_pair_is_ed25519_and_never_the_same() -> None:
    assert KeyPair().public_key.algorithm is Algorithm.Ed25519
    assert KeyPair().private_key != KeyPair().private_key


def test_algorithms_are_numbers_with_the_names_of_biscuit_python() -> None:
    assert int(Algorithm.Ed25519) == int(biscuit_auth.Algorithm.Ed25519)
    assert int(Algorithm.Secp256r1) == int(biscuit_auth.Algorithm.Secp256r1)
    assert repr(Algorithm.Secp256r1) == repr(biscuit_auth.Algorithm.Secp256r1) == "Algorithm.Secp256r1"


def test_keys_of_different_algorithms_are_different() -> None:
    secret = bytes.fromhex(P256_SCALAR)
    ours, other = (PrivateKey.from_bytes(secret, algorithm) for algorithm in Algorithm)
    assert ours != other
    assert ours.public_key != other.public_key


def test_ed25519_signs_as_rfc_8032_says() -> None:
    key = PrivateKey(f"ed25519-private/{SEED}")
    assert repr(key.public_key) == f"ed25519/{PUBLIC}"
    assert key.sign(b"\x72").hex() == SIGNATURE
    assert key.public_key.canonical_signature(key.sign(b"\x72")).hex() == SIGNATURE


def test_p256_signs_as_rfc_6979_says_with_the_smaller_s() -> None:
    key = PrivateKey(f"secp256r1-private/{P256_SCALAR}")
    assert repr(key.public_key) == f"secp256r1/{P256_PUBLIC}"
    assert key.sign(b"sample") == der(P256_R, P256_ORDER - P256_S)


def test_both_signatures_of_p256_verify_and_share_one_canonical_form() -> None:
    key = PrivateKey(f"secp256r1-private/{P256_SCALAR}").public_key
    twins = [der(P256_R, P256_S), der(P256_R, P256_ORDER - P256_S)]
    for signature in twins:
        key.verify(b"sample", signature)
        assert key.canonical_signature(signature) == twins[1]


def test_a_signature_of_another_message_or_key_is_refused(pair: KeyPair) -> None:
    signature = pair.private_key.sign(b"message")
    pair.public_key.verify(b"message", signature)
    with pytest.raises(SignatureError):
        pair.public_key.verify(b"massage", signature)
    with pytest.raises(SignatureError):
        KeyPair(pair.public_key.algorithm).public_key.verify(b"message", signature)


@pytest.mark.parametrize("length", [0, 1, 16, 63, 65, 72, 96])
def test_a_signature_of_any_other_length_is_refused(length: int, pair: KeyPair) -> None:
    with pytest.raises(SignatureError):
        pair.public_key.verify(b"message", b"\x30" * length)


@pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
def test_a_small_order_or_non_canonical_key_is_refused_everywhere(key: str) -> None:
    raw = bytes.fromhex(key)
    spki = bytes.fromhex("302a300506032b6570032100") + raw
    readers: list[Callable[[], PublicKey]] = [
        lambda: PublicKey(f"ed25519/{key}"),
        lambda: PublicKey.from_bytes(raw, Algorithm.Ed25519),
        lambda: PublicKey.from_wire(0, raw),
        lambda: PublicKey.from_der(spki),
    ]
    for read in readers:
        with pytest.raises(KeyFormatError):
            read()


@pytest.mark.parametrize("point", ODD_KEYS.values(), ids=ODD_KEYS.keys())
def test_a_small_order_or_non_canonical_r_is_refused(point: str) -> None:
    key = PrivateKey(f"ed25519-private/{SEED}").public_key
    with pytest.raises(SignatureError, match="not canonical"):
        key.verify(b"\x72", bytes.fromhex(point + SIGNATURE[64:]))


def test_an_s_from_the_group_order_up_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(bytes.fromhex(SIGNATURE[64:]), "little")
    key = PrivateKey(f"ed25519-private/{SEED}").public_key
    for multiple in range(1, 15):
        altered = SIGNATURE[:64] + (s + multiple * order).to_bytes(32, "little").hex()
        with pytest.raises(SignatureError, match="not canonical"):
            key.verify(b"\x72", bytes.fromhex(altered))


def test_a_point_off_the_curve_is_refused_when_a_key_is_given_and_verifies_nothing_on_the_wire() -> None:
    raw = bytes.fromhex("02" + "00" * 31)
    with pytest.raises(KeyFormatError, match="point of the curve"):
        PublicKey.from_bytes(raw, Algorithm.Ed25519)
    with pytest.raises(KeyFormatError, match="point of the curve"):
        PublicKey(f"ed25519/{raw.hex()}")
    with pytest.raises(SignatureError):
        PublicKey.from_wire(0, raw).verify(b"\x72", bytes.fromhex(SIGNATURE))


def uncompressed(point: bytes) -> bytes:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


P256_REFUSED = {
    "uncompressed": uncompressed(bytes.fromhex(P256_PUBLIC)),
    "hybrid": b"\x07" + uncompressed(bytes.fromhex(P256_PUBLIC))[1:],
    "x alone": bytes.fromhex(P256_PUBLIC)[1:],
    "the point at infinity": b"\x00",
    "not on the curve": b"\x02" + bytes(31) + b"\x01",
    "x not reduced": b"\x02" + b"\xff" * 32,
    "trailing byte": bytes.fromhex(P256_PUBLIC) + b"\x00",
    "unknown prefix": b"\x05" + bytes.fromhex(P256_PUBLIC)[1:],
}


@pytest.mark.parametrize("raw", P256_REFUSED.values(), ids=P256_REFUSED.keys())
def test_a_p256_key_is_a_compressed_point_of_the_curve(raw: bytes) -> None:
    readers: list[Callable[[], PublicKey]] = [
        lambda: PublicKey.from_bytes(raw, Algorithm.Secp256r1),
        lambda: PublicKey.from_wire(1, raw),
        lambda: PublicKey(f"secp256r1/{raw.hex()}"),
    ]
    for read in readers:
        with pytest.raises(KeyFormatError):
            read()


def test_a_p256_scalar_out_of_range_is_refused() -> None:
    for scalar in (0, P256_ORDER, P256_ORDER + 1, 2**256 - 1):
        with pytest.raises(KeyFormatError):
            PrivateKey.from_bytes(scalar.to_bytes(32, "big"), Algorithm.Secp256r1)
    PrivateKey.from_bytes((P256_ORDER - 1).to_bytes(32, "big"), Algorithm.Secp256r1)


def accepts(verify: Callable[[], object]) -> bool:
    try:
        verify()
    except SignatureError:
        return False
    return True


def der(r: int, s: int) -> bytes:
    """The DER of an ECDSA signature, by hand."""

    def integer(value: int) -> bytes:
        content = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return b"\x02" + bytes([len(content)]) + content

    body = integer(r) + integer(s)
    return b"\x30" + bytes([len(body)]) + body


def test_an_ecdsa_signature_is_strict_der_in_range() -> None:
    key = PrivateKey(f"secp256r1-private/{P256_SCALAR}").public_key
    good = der(P256_R, P256_S)
    key.verify(b"sample", good)
    bad = {
        "trailing byte": good + b"\0",
        "trailing byte inside": b"\x30" + bytes([good[1] + 1]) + good[2:] + b"\0",
        "long length": b"\x30\x81" + good[1:],
        "indefinite length": b"\x30\x80" + good[2:] + b"\0\0",
        "padded integer": b"\x30" + bytes([good[1] + 1]) + b"\x02\x22\x00" + good[4:],
        "raw": P256_R.to_bytes(32, "big") + P256_S.to_bytes(32, "big"),
        "s + n": der(P256_R, P256_S + P256_ORDER),
        "r + n": der(P256_R + P256_ORDER, P256_S),
        "r = 0": der(0, P256_S),
        "s = 0": der(P256_R, 0),
        "empty": b"",
    }
    for name, signature in bad.items():
        assert not accepts(partial(key.verify, b"sample", signature)), name
        assert not accepts(partial(key.canonical_signature, signature)), name


BAD_TEXTS = [
    "",
    "/",
    PUBLIC,
    f"ed25519-private/{PUBLIC}",
    f"ED25519/{PUBLIC}",
    f" ed25519/{PUBLIC}",
    f"ed25519/{PUBLIC} ",
    f"ed25519/{PUBLIC}\n\n",
    f"ed25519/{PUBLIC[:62]} {PUBLIC[62:]}",
    f"ed25519/{PUBLIC}00",
    f"ed25519/{PUBLIC[:-2]}",
    f"ed25519/{PUBLIC[:-1]}",
    f"ed25519//{PUBLIC}",
    f"ed25519/0x{PUBLIC[2:]}",
    f"ed448/{PUBLIC}",
    f"secp256r1/{PUBLIC}",
    f"ed25519/{P256_PUBLIC}",
]


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_text_that_is_not_a_public_key_is_a_key_format_error_and_a_value_error(text: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        PublicKey(text)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CapabilityError)
    assert caught.value.code == "key.format"


def test_a_line_end_after_a_key_is_allowed() -> None:
    for end in ("\n", "\r\n"):
        assert repr(PublicKey(f"ed25519/{PUBLIC}{end}")) == f"ed25519/{PUBLIC}"
        assert PrivateKey(f"ed25519-private/{SEED}{end}").text() == f"ed25519-private/{SEED}"


def test_hex_digits_of_both_cases_are_read() -> None:
    assert PublicKey(f"ed25519/{PUBLIC.upper()}") == PublicKey(f"ed25519/{PUBLIC}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        SEED,
        f"ed25519/{SEED}",
        f"ed25519-private/{SEED}00",
        f"ed25519-private/{SEED[:-1]}g",
        "ed25519-private",
    ],
)
def test_a_text_that_is_not_a_private_key_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        PrivateKey(text)
    shown = "".join(traceback.format_exception_only(caught.value))
    assert SEED[:16] not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_wrong_types_are_type_errors() -> None:
    wrong: Any
    for kind in (PublicKey, PrivateKey):
        for wrong in (5, None, b"ed25519/", ["ed25519/"]):
            with pytest.raises(TypeError):
                kind(wrong)
            with pytest.raises(TypeError):
                kind.from_pem(wrong)
        for wrong in (32, None, "ed25519", 3.5):
            with pytest.raises(TypeError):
                kind.from_bytes(wrong, Algorithm.Ed25519)
            with pytest.raises(TypeError):
                kind.from_der(wrong)
    with pytest.raises(TypeError):
        KeyPair.from_private_key(KeyPair().public_key)  # type: ignore[arg-type]


def test_an_unknown_algorithm_is_refused() -> None:
    two: Any = 2
    for read in (PublicKey.from_bytes, PrivateKey.from_bytes):
        with pytest.raises(KeyFormatError, match="unknown signature algorithm 2"):
            read(bytes(32), two)
    with pytest.raises(KeyFormatError, match="unknown signature algorithm 2"):
        PublicKey.from_wire(2, bytes(32))
    with pytest.raises(KeyFormatError, match="unknown signature algorithm 2"):
        KeyPair(two)


def test_swapped_arguments_do_not_show_the_secret() -> None:
    swapped: Any = (Algorithm.Ed25519, bytes.fromhex(SEED))
    with pytest.raises(TypeError) as caught:
        PrivateKey.from_bytes(*swapped)
    assert "xcd" not in str(caught.value)


def test_pem_and_der_of_other_keys_and_of_nothing_are_refused() -> None:
    others: list[Any] = [
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ]
    for other in others:
        private = other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        public = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(KeyFormatError, match="neither"):
            PrivateKey.from_der(private)
        with pytest.raises(KeyFormatError, match="neither"):
            PublicKey.from_der(public)
    pair = KeyPair()
    for der_bytes in (b"", b"\x30", b"hello", pair.private_key.to_der()[:-1], pair.public_key.to_der()):
        with pytest.raises(KeyFormatError):
            PrivateKey.from_der(der_bytes)
    for der_bytes in (b"", pair.public_key.to_der() + b"\0", pair.private_key.to_der()):
        with pytest.raises(KeyFormatError):
            PublicKey.from_der(der_bytes)
    for pem in ("", "hello", "\udcff", pair.public_key.to_pem(), "-----BEGIN PRIVATE KEY-----\n"):
        with pytest.raises(KeyFormatError):
            PrivateKey.from_pem(pem)
    with pytest.raises(KeyFormatError):
        PublicKey.from_pem(pair.private_key.to_pem())


def test_an_encrypted_key_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(b"password")
    with pytest.raises(KeyFormatError, match="unencrypted"):
        PrivateKey.from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode())
    with pytest.raises(KeyFormatError, match="unencrypted"):
        PrivateKey.from_der(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption))


def test_a_secret_is_not_shown_pickled_or_copied(pair: KeyPair) -> None:
    secret = pair.private_key.to_bytes().hex()
    for shown in (
        repr(pair),
        str(pair),
        repr(pair.private_key),
        str(pair.private_key),
        f"{pair.private_key}",
    ):
        assert secret not in shown
        assert repr(pair.public_key) in shown
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            refused(pair.private_key)
        with pytest.raises(TypeError):
            pickle.dumps(pair)
    assert pickle.loads(pickle.dumps(pair.public_key)) == pair.public_key


def test_ed25519_alone_does_not_load_cryptography() -> None:
    program = (
        "import sys\n"
        "from capability import chain\n"
        "from capability.keys import KeyPair, PrivateKey, PublicKey\n"
        "pair = KeyPair(); PrivateKey(pair.private_key.text()); PublicKey(repr(pair.public_key))\n"
        "chain.verify(chain.append(chain.start(pair.private_key, b'', 3), b'', 3), pair.public_key)\n"
        "sys.exit(any(name.split('.')[0] == 'cryptography' for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
