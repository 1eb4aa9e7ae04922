//! The names of the layouts in which structures are shared, as the store's
//! `protocol` key has them: `xen/include/public/io/protocols.h`.

crate::facts::texts! {
    /// That of 32-bit x86.
    XEN_IO_PROTO_ABI_X86_32 = "x86_32-abi";
    /// That of 64-bit x86.
    XEN_IO_PROTO_ABI_X86_64 = "x86_64-abi";
    /// That of Arm, 32 and 64-bit.
    XEN_IO_PROTO_ABI_ARM = "arm-abi";
    /// This guest's own.
    XEN_IO_PROTO_ABI_NATIVE = "x86_64-abi";
}
