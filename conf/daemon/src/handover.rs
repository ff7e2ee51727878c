//! What one process of a daemon gives to the next: the manifest, which says which descriptors come along and what is known.
//!
//! Only the data is here; starting the next process and passing the descriptors is not.

pub mod manifest;
