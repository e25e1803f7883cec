from orchestrator.gateway.activity import ActivityBook, News, Tabs

HOST = "a.localhost"


def test_a_request_is_activity_and_movement() -> None:
    book = ActivityBook(10)
    book.load(HOST, issued=1, in_progress=0, now=100)
    assert book.news() == News({HOST: 100}, {HOST: 100})


def test_an_open_stream_is_activity_but_no_movement() -> None:
    book = ActivityBook(10)
    book.load(HOST, issued=0, in_progress=3, now=100)
    assert book.news() == News({HOST: 100}, {})


def test_an_idle_cluster_is_no_news() -> None:
    book = ActivityBook(10)
    book.load(HOST, issued=0, in_progress=0, now=100)
    assert not book.news()


def test_news_stay_until_confirmed_and_later_ones_are_kept() -> None:
    book = ActivityBook(10)
    book.request(HOST, 100)
    news = book.news()
    assert book.news() == news
    book.request(HOST, 101)
    book.confirm(news)
    assert book.news() == News({HOST: 101}, {HOST: 101})
    book.confirm(book.news())
    assert not book.news()


def test_times_never_fall() -> None:
    book = ActivityBook(10)
    book.request(HOST, 100)
    book.request(HOST, 50)
    assert book.news().active == {HOST: 100}


def feed(book: ActivityBook, per_interval: int, *, entries: int = 6, stream: str = "s") -> None:
    """A stream that carries so many bytes in each interval of ten seconds."""
    for number in range(1, entries + 1):
        book.stream(stream, HOST, per_interval * number, 100 + 10 * number)


def test_keepalives_are_no_movement() -> None:
    for per_interval in (0, 18, 30, 16, 224):
        book = ActivityBook(10)
        feed(book, per_interval)
        assert book.news() == News({HOST: 160}, {}), per_interval


def test_more_than_keepalives_is_movement() -> None:
    for per_interval in (225, 2044, 4200, 100_000):
        book = ActivityBook(10)
        feed(book, per_interval)
        assert book.news().moved == {HOST: 160}, per_interval


def test_a_tab_is_idle_only_after_the_limit() -> None:
    book = ActivityBook(10)
    book.stream("s", HOST, 5000, 100)
    book.stream("s", HOST, 5010, 110)
    assert book.tabs(HOST, idle_after_s=30, now=111) == Tabs(idle=0, busy=1)
    book.stream("s", HOST, 5020, 140)
    assert book.tabs(HOST, idle_after_s=30, now=141) == Tabs(idle=1, busy=0)
    assert book.tabs("other.localhost", idle_after_s=30, now=141) == Tabs(0, 0)
    assert book.tabs(HOST, idle_after_s=30, now=160) == Tabs(0, 0), "no entry for two intervals: it has ended"


def test_streams_that_ended_are_forgotten() -> None:
    book = ActivityBook(10)
    book.stream("s", HOST, 10, 100)
    book.forget_ended(120)
    book.stream("s", HOST, 300, 121)
    assert HOST not in book.news().moved, "known: 290 bytes in 21 s are keep-alives"
    book.forget_ended(200)
    book.stream("s", HOST, 301, 201)
    assert book.news().moved == {HOST: 201}, "unknown again: better one movement too many"


def test_a_withdrawn_host_leaves_nothing() -> None:
    book = ActivityBook(10)
    book.request(HOST, 100)
    book.confirm(book.news())
    book.forget_host(HOST)
    assert vars(book)["_active"] == vars(book)["_confirmed_moved"] == {}
