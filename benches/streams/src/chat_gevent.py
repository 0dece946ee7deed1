"""A chat of strangers, with gevent: a greenlet per connection, as its documentation suggests."""
from gevent.server import StreamServer
from socket import IPPROTO_TCP, TCP_NODELAY

waiting = []


def serve(socket, address):
    socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    if waiting:
        partner, place = waiting.pop()
        place.append(socket)
        place = [partner]
    else:
        place = []
        waiting.append((socket, place))
    for line in socket.makefile(mode='rb'):
        if place:
            place[0].sendall(line)


server = StreamServer(('127.0.0.1', 0), serve, backlog=1024)
server.start()
print('127.0.0.1:%d' % server.server_port, flush=True)
server.serve_forever()
