"""Makes `twistd sipd` known."""

from twisted.application.service import ServiceMaker

sipd = ServiceMaker("sipd", "sipd.tap", "SIP registrar, location service and forking proxy", "sipd")
