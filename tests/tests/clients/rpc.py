"""A gRPC server and its clients, of grpcio, with methods on bytes: `rpc.py serve ADDRESS PORT`, `rpc.py call NAME:PORT [CA]`.

`call` goes through everything that a client may rely on and ends with `ok`, or with the exception of what went wrong."""

import collections
import concurrent.futures
import sys
import threading

import grpc

BIG = 8 << 20
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
WAIT = 30
# Calls of the method `wait` that the client has ended, by what they asked.
given_up = collections.Counter()
changed = threading.Condition()


def echo(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-begun", metadata.get("x-client", "-")), ("x-raw-bin", metadata.get("x-raw-bin", b""))))
    context.set_trailing_metadata((("x-ended", "yes"),))
    return request


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    number = size = 0
    for request in requests:
        number, size = number + 1, size + len(request)
    return f"{number} {size}".encode()


def talk(requests, context):
    for request in requests:
        yield b"you said " + request


def fail(request, context):
    for number in range(int(request)):
        yield str(number).encode()
    context.set_trailing_metadata((("x-why", "a test"), ("x-detail-bin", bytes(range(256)))))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no luck: 100 % grün\nsecond line")


def wait(request, context):
    """A first message, then nothing until the client has had enough."""
    over = threading.Event()

    def end():
        # Noted here: of a call that is over grpcio does not come back into this function.
        with changed:
            given_up[request] += 1
            changed.notify_all()
        over.set()

    assert context.add_callback(end)
    yield b"begun"
    over.wait(2 * WAIT)


def ended(request, context):
    """How many calls of `wait` with this request were given up; waits for the first one."""
    with changed:
        changed.wait_for(lambda: given_up[request], WAIT / 2)
        return str(given_up[request]).encode()


def remaining(request, context):
    return str(context.time_remaining()).encode()


KINDS = {
    "unary_unary": (grpc.unary_unary_rpc_method_handler, [echo, ended, remaining]),
    "unary_stream": (grpc.unary_stream_rpc_method_handler, [count, fail, wait]),
    "stream_unary": (grpc.stream_unary_rpc_method_handler, [total]),
    "stream_stream": (grpc.stream_stream_rpc_method_handler, [talk]),
}


def serve(address, port):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=LIMITS)
    methods = {method.__name__: handler(method) for handler, all_methods in KINDS.values() for method in all_methods}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("lab.Echo", methods)])
    assert server.add_insecure_port(f"{address}:{port}")
    server.start()
    server.wait_for_termination()


class Client:
    """`client.count(b"3")` calls the method `count`."""

    def __init__(self, channel):
        for kind, (_, methods) in KINDS.items():
            for method in methods:
                setattr(self, method.__name__, getattr(channel, kind)(f"/lab.Echo/{method.__name__}"))
        self.none_such = channel.unary_unary("/lab.Echo/none_such")


def failure(work):
    """The error that a call ends with, and the messages before it."""
    messages = []
    try:
        call = work()
        for message in call:
            messages.append(message)
    except grpc.RpcError as error:
        return error, messages
    raise AssertionError("it did not fail")


def unary(client):
    for number in range(200):
        assert client.echo(str(number).encode(), timeout=WAIT) == str(number).encode()
    assert client.echo(b"", timeout=WAIT) == b""
    raw = bytes(range(256))
    answer, call = client.echo.with_call(b"x", timeout=WAIT, metadata=(("x-client", "lab"), ("x-raw-bin", raw)))
    begun, ended = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert begun["x-begun"] == "lab" and begun["x-raw-bin"] == raw, begun
    assert ended["x-ended"] == "yes" and call.code() == grpc.StatusCode.OK, ended
    packed = b"z" * 100_000
    assert client.echo(packed, timeout=WAIT, compression=grpc.Compression.Gzip) == packed
    # Many at once on one connection: more than its streams.
    calls = [client.echo.future(str(number).encode(), timeout=WAIT) for number in range(500)]
    assert [call.result() for call in calls] == [str(number).encode() for number in range(500)]


def large(client):
    message = bytes(range(256)) * (BIG // 256)
    assert client.echo(message, timeout=WAIT) == message
    assert client.total((message for _ in range(4)), timeout=WAIT) == f"4 {4 * BIG}".encode()
    assert list(client.talk(iter([message]), timeout=WAIT)) == [b"you said " + message]


def streams(client):
    assert list(client.count(b"3000", timeout=WAIT)) == [str(number).encode() for number in range(3000)]
    assert list(client.count(b"0", timeout=WAIT)) == []
    assert client.total((b"x" * number for number in range(1000)), timeout=WAIT) == f"1000 {sum(range(1000))}".encode()
    assert client.total(iter([]), timeout=WAIT) == b"0 0"
    # Each message is answered before the next is sent: nothing waits for the end of the request, or for more of it.
    answered = threading.Semaphore(0)

    def asking():
        for number in range(200):
            yield str(number).encode()
            assert answered.acquire(timeout=WAIT)

    answers = []
    for answer in client.talk(asking(), timeout=WAIT):
        answers.append(answer)
        answered.release()
    assert answers == [b"you said %d" % number for number in range(200)]


def errors(client):
    for before in (0, 3):
        error, messages = failure(lambda: client.fail(str(before).encode(), timeout=WAIT))
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "no luck: 100 % grün\nsecond line", error
        more = dict(error.trailing_metadata())
        assert more["x-why"] == "a test" and more["x-detail-bin"] == bytes(range(256)), more
        assert messages == [str(number).encode() for number in range(before)]
    error, _ = failure(lambda: client.none_such(b"", timeout=WAIT))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def deadline(client, name):
    left = float(client.remaining(b"", timeout=25))
    # grpcio rounds up what it sends.
    assert 20 < left < 26, left
    request = f"deadline {name}".encode()
    error, messages = failure(lambda: client.wait(request, timeout=0.5))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and messages == [b"begun"], (error, messages)
    assert client.ended(request, timeout=WAIT) == b"1"


def cancellation(client, name):
    request = f"cancel {name}".encode()
    call = client.wait(request, timeout=WAIT)
    assert next(call) == b"begun"
    call.cancel()
    error, _ = failure(lambda: call)
    assert error.code() == grpc.StatusCode.CANCELLED, error
    # The server hears of it, and the connection goes on.
    assert client.ended(request, timeout=WAIT) == b"1"


def call(target, authority):
    if authority:
        with open(authority, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(target, credentials, options=LIMITS)
    else:
        channel = grpc.insecure_channel(target, options=LIMITS)
    with channel:
        grpc.channel_ready_future(channel).result(WAIT)
        client = Client(channel)
        for part in (unary, large, streams, errors):
            part(client)
        deadline(client, target)
        cancellation(client, target)
        unary(client)
    print("ok")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        call(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
