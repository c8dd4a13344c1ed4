"""A bounded map holds what it may, drops what was not asked for, and keeps count."""

from random import Random
from threading import Thread

from capability.cache import Cache


def test_a_cache_holds_as_much_as_it_may() -> None:
    cache: Cache[int, str] = Cache(100, 10_000)
    for number in range(100):
        cache.put(number, str(number), 100)
    for _ in range(3):
        assert [cache.get(number) for number in range(100)] == [str(number) for number in range(100)]
    stats = cache.stats()
    assert (stats.entries, stats.size, stats.max_entries, stats.max_size) == (100, 10_000, 100, 10_000)
    assert (stats.hits, stats.misses) == (300, 0)


def test_what_is_not_asked_for_makes_room() -> None:
    cache: Cache[int, str] = Cache(100, 10_000)
    kept = range(50)
    for number in range(5_000):
        cache.put(number, str(number), 100)
        if number % 20 == 0:
            assert all(cache.get(old) for old in kept if old <= number)
            assert (cache.stats().entries, cache.stats().size) == (
                min(number + 1, 100),
                100 * min(number + 1, 100),
            )
    cache.put(7, "again", 4_000)
    assert cache.get(7) == "again"
    assert cache.stats().size <= 10_000
    cache.put(8, "too large", 5_001)
    assert cache.get(8) != "too large"


def test_a_cache_keeps_count_among_threads() -> None:
    cache: Cache[int, int] = Cache(64, 6_400)

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(3_000):
            key = random.randrange(96)
            found = cache.get(key)
            assert found is None or found == key
            cache.put(key, key, random.choice((50, 100, 150)))

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert 40 <= stats.entries <= 64
    assert stats.size == sum(size for _, size in [*cache._young.values(), *cache._old.values()]) <= 6_400
