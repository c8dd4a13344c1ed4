#!/bin/sh
# The main job, end to end, in a folder of its own: keygen, mint, narrow, verify, revoke.
# Each command is printed, then run, and its exit code is compared with the one that the story needs.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset CAP_CONFIG CAP_KEYS CAP_PRIVATE_KEY CAP_TOKEN
export CAP_PUBLIC_KEY=root.key.pub CAP_STORE=sqlite:///cap.db

say() {
    printf '\n# %s\n' "$1"
}

# run EXIT_CODE COMMAND
run() {
    printf '$ %s\n' "$2"
    status=0
    sh -c "$2" || status=$?
    if [ "$status" -ne "$1" ]; then
        echo "error: exit code $status, expected $1" >&2
        exit 1
    fi
    [ "$status" -eq 0 ] || echo "(exit code $status)"
}

say "The issuer makes a root key. Verifiers need only the public half."
run 0 "cap keygen root.key"

say "The issuer mints a token for a person."
run 0 "cap mint 'user(\"alice\"); right(\"orders\", \"read\"); right(\"orders\", \"write\");' --private-key root.key --expires 90d > alice.token"

say "Alice narrows it for a script: no key, no network."
run 0 "cap attenuate --application orders --operation read --expires 1h alice.token > script.token"
run 0 "cap inspect script.token"

say "The service asks whether the script may read."
run 0 "cap verify --application orders --operation read script.token"

say "Or write. Alice may; her script may not, and the answer says which check failed."
run 0 "cap verify --application orders --operation write alice.token"
run 1 "cap verify --application orders --operation write script.token"

say "Alice's token leaks. The issuer revokes it."
run 0 "cap revoke --reason 'found in a public log' alice.token"

say "The script's token descends from it, so it is dead too."
run 1 "cap verify --application orders --operation read script.token"
run 0 "cap revoked"
