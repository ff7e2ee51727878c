//! Addresses, links, routes and sysctls over rtnetlink.
