//! The HTTP proxy tier, on Pingora.
