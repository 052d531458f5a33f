//! The server as its users see it: real sockets on the loopback, real TLS, app servers of the tests own.
