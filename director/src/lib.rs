//! Layer-4 control plane for the kernel's IPVS.
