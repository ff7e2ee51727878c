//! Typed IPVS (IP Virtual Server) over generic netlink.
