"""`send_mail`: hands a mail to a server by SMTP."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from ipaddress import ip_address

from pipeline.monitoring.notify_targets import MailBox
from pipeline.monitoring.notify_webhook import Connects

__all__ = ["send_mail"]


def send_mail(box: MailBox, title: str, lines: Sequence[str], at: datetime, deadline: Connects) -> None:
    """Send it. A password goes over TLS alone, unless the server is this machine.

    Raises OSError, SMTPException.
    """
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = title, box.sender, ", ".join(box.recipients)
    message["Date"], message["Auto-Submitted"] = format_datetime(at), "auto-generated"
    message["Message-ID"] = make_msgid(domain=box.sender.rpartition("@")[2])
    message.set_content("\n\n".join(lines) + "\n\n-- \nRankline; docs/monitoring.md says what to do\n")
    context = ssl.create_default_context()
    with _Plain(box, deadline) if not box.tls else _Tls(box, deadline, context) as server:
        server.ehlo_or_helo_if_needed()
        if not box.tls and server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
        elif not box.tls and box.password and not _is_here(box.host):
            raise smtplib.SMTPNotSupportedError("it has no TLS, and a password is not sent without")
        if box.user:
            server.login(box.user, box.password)
        if refused := server.send_message(message):
            raise smtplib.SMTPRecipientsRefused(refused)


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class _Plain(smtplib.SMTP):
    def __init__(self, box: MailBox, deadline: Connects) -> None:
        self._deadline = deadline
        # Its name by itself: looking for a whole one may take longer than the mail.
        super().__init__(box.host, box.port, socket.gethostname(), timeout=deadline.patience)

    # Where smtplib makes its sockets.
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._deadline.connect((host, port), timeout)


class _Tls(_Plain):
    def __init__(self, box: MailBox, deadline: Connects, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(box, deadline)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._context.wrap_socket(super()._get_socket(host, port, timeout), server_hostname=host)
