"""A chat of strangers, with Twisted."""
from twisted.internet import epollreactor
epollreactor.install()
from twisted.internet import protocol, reactor
from twisted.protocols.basic import LineReceiver


class Stranger(LineReceiver):
    delimiter = b'\n'
    partner = None

    def connectionMade(self):
        self.transport.setTcpNoDelay(True)
        waiting = self.factory.waiting
        if waiting:
            self.partner = waiting.pop()
            self.partner.partner = self
        else:
            waiting.append(self)

    def lineReceived(self, line):
        if self.partner:
            self.partner.sendLine(line)

    def connectionLost(self, reason):
        if self.partner:
            self.partner.transport.loseConnection()


factory = protocol.Factory.forProtocol(Stranger)
factory.waiting = []
port = reactor.listenTCP(0, factory, backlog=1024, interface='127.0.0.1')
print('127.0.0.1:%d' % port.getHost().port, flush=True)
reactor.run()
