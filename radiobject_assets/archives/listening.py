"""A server of associations (pynetdicom's) that nobody stops who connects and says nothing."""

from __future__ import annotations

import ssl
import threading
from socket import socket
from socketserver import TCPServer
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import ThreadedAssociationServer

_HANDSHAKE_S = 30.0


class _Server(ThreadedAssociationServer):
    """TLS begins in the thread of its connection: in that which accepts it, one silent caller held up all."""

    def get_request(self) -> tuple[socket, Any]:
        assert self.socket is not None
        connection, address = self.socket.accept()
        if self.ssl_context is not None:
            connection.settimeout(_HANDSHAKE_S)
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if isinstance(request, ssl.SSLSocket):
            try:
                request.do_handshake()
                request.settimeout(None)
            except OSError:
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)

    def shutdown(self) -> None:
        TCPServer.shutdown(self)
        self.server_close()


def listen(
    entity: ApplicationEntity, at: tuple[str, int], tls: ssl.SSLContext | None, handlers: list[Any]
) -> ThreadedAssociationServer:
    """Listen in a thread until it is shut down.

    Raises
    ------
    OSError
        The port is taken, or the address is not this machine's.
    """
    server = entity.make_server(
        at, ae_title=entity.ae_title, ssl_context=tls, evt_handlers=handlers, server_class=_Server
    )
    assert isinstance(server, ThreadedAssociationServer)
    threading.Thread(target=server.serve_forever, name="AcceptorServer", daemon=True).start()
    return server
