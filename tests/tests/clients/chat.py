"""A WebSocket server and its clients, of the library `websockets`: `chat.py serve ADDRESS PORT`, `chat.py talk URL [CA]`.

`talk` goes through everything that a client may rely on and ends with `ok`, or with the exception of what went wrong."""

import asyncio
import hashlib
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

BIG = 8 << 20
# How each connection ended that asked to be remembered by its path: the code and the reason that the client gave.
ended = {}


async def served(connection):
    path = connection.request.path
    if path.startswith("/ws/later/"):
        try:
            await connection.recv()
        except ConnectionClosed as closed:
            ended[path] = f"{closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "broken"
        return
    async for message in connection:
        match message:
            case "ping me":
                await (await connection.ping(b"\x00from the server"))
                await connection.send("you answered")
            case "count":
                for number in range(500):
                    await connection.send(str(number))
            case "digest next":
                digest = hashlib.sha256()
                async for piece in connection.recv_streaming(decode=False):
                    digest.update(piece)
                await connection.send(digest.hexdigest())
            case "close me":
                await connection.close(4001, "as you wish")
                return
            case str() if message.startswith("how ended "):
                await connection.send(ended.get(message.removeprefix("how ended "), "unknown"))
            case _:
                await connection.send(message)


def refuse(connection, request):
    return connection.respond(403, "not you\n") if request.path == "/ws/refused" else None


async def run(address, port):
    async with serve(served, address, port, max_size=None, process_request=refuse, subprotocols=["lab"]) as server:
        await server.serve_forever()


async def echoes(connection):
    for number in range(300):
        await connection.send(f"text {number} ü")
        assert await connection.recv() == f"text {number} ü"
        await connection.send(number.to_bytes(4, "big"))
        assert await connection.recv() == number.to_bytes(4, "big")
    # Many under way at once stay in order.
    for number in range(2000):
        await connection.send(str(number))
    for number in range(2000):
        assert await connection.recv() == str(number)
    await connection.send("")
    assert await connection.recv() == ""


async def large(connection):
    text, binary = "x" * BIG, bytes(range(256)) * (BIG // 256)
    for message in (text, binary):
        receive = asyncio.create_task(connection.recv())
        await connection.send(message)
        assert await receive == message
    # In fragments.
    await connection.send("digest next")
    await connection.send(binary[at : at + 100_000] for at in range(0, BIG, 100_000))
    assert await connection.recv() == hashlib.sha256(binary).hexdigest()
    await connection.send("count")
    assert [await connection.recv() for _ in range(500)] == [str(number) for number in range(500)]


async def pings(connection):
    for number in range(20):
        await (await connection.ping(bytes([number])))
    await connection.send("ping me")
    assert await connection.recv() == "you answered"


async def talk(url, authority):
    more = {"max_size": None, "proxy": None, "subprotocols": ["other", "lab"]}
    if authority:
        more["ssl"] = ssl.create_default_context(cafile=authority)
    async with connect(url + "/ws/echo", **more) as connection:
        assert connection.subprotocol == "lab"
        for part in (echoes, large, pings):
            await part(connection)
        # The server closes.
        await connection.send("close me")
        try:
            raise AssertionError(await connection.recv())
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason, closed.rcvd_then_sent) == (4001, "as you wish", True), closed
    async with connect(url + "/ws/echo", compression=None, **more) as connection:
        for part in (echoes, large):
            await part(connection)
        # The client closes, and both sides know how.
        async with connect(url + f"/ws/later/{url}", **more) as other:
            await other.close(4002, "enough")
            assert other.close_code == 4002
        for _ in range(500):
            await connection.send(f"how ended /ws/later/{url}")
            if (how := await connection.recv()) != "unknown":
                break
        assert how == "4002 enough", how
    assert connection.close_code == 1000
    try:
        async with connect(url + "/ws/refused", **more):
            raise AssertionError("not refused")
    except InvalidStatus as refused:
        assert refused.response.status_code == 403 and refused.response.body == b"not you\n", refused
    many = await asyncio.gather(*(connect(url + "/ws/echo", **more) for _ in range(100)))
    await asyncio.gather(*(connection.send(f"from {number}") for number, connection in enumerate(many)))
    for number, connection in enumerate(many):
        assert await connection.recv() == f"from {number}"
    await asyncio.gather(*(connection.close() for connection in many))
    print("ok")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(run(sys.argv[2], int(sys.argv[3])))
    else:
        asyncio.run(asyncio.wait_for(talk(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None), 120))
