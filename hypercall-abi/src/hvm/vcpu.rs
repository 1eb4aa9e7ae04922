//! The state of an HVM or PVH guest's vCPU that is to be started.

crate::facts::constants! {
    /// [`VcpuHvmContext::mode`]: 32-bit, [`VcpuHvmX8632`].
    VCPU_HVM_MODE_32B: u32 = 0;
    /// [`VcpuHvmContext::mode`]: 64-bit, [`VcpuHvmX8664`].
    VCPU_HVM_MODE_64B: u32 = 1;
}

crate::facts::structs! {
    /// The registers of a vCPU that starts in 32-bit mode.
    "vcpu_hvm_x86_32" 120
    pub struct VcpuHvmX8632 {
        /// `eax`.
        eax: u32 = 0,
        /// `ecx`.
        ecx: u32 = 4,
        /// `edx`.
        edx: u32 = 8,
        /// `ebx`.
        ebx: u32 = 12,
        /// `esp`.
        esp: u32 = 16,
        /// `ebp`.
        ebp: u32 = 20,
        /// `esi`.
        esi: u32 = 24,
        /// `edi`.
        edi: u32 = 28,
        /// `eip`.
        eip: u32 = 32,
        /// `eflags`.
        eflags: u32 = 36,
        /// `cr0`.
        cr0: u32 = 40,
        /// `cr3`.
        cr3: u32 = 44,
        /// `cr4`.
        cr4: u32 = 48,
        /// Zero.
        pad1: u32 = 52,
        /// `efer`.
        efer: u64 = 56,
        /// `cs_base`.
        cs_base: u32 = 64,
        /// `ds_base`.
        ds_base: u32 = 68,
        /// `ss_base`.
        ss_base: u32 = 72,
        /// `es_base`.
        es_base: u32 = 76,
        /// `tr_base`.
        tr_base: u32 = 80,
        /// `cs_limit`.
        cs_limit: u32 = 84,
        /// `ds_limit`.
        ds_limit: u32 = 88,
        /// `ss_limit`.
        ss_limit: u32 = 92,
        /// `es_limit`.
        es_limit: u32 = 96,
        /// `tr_limit`.
        tr_limit: u32 = 100,
        /// Attributes of `cs`, as the descriptor has them.
        cs_ar: u16 = 104,
        /// Attributes of `ds`.
        ds_ar: u16 = 106,
        /// Attributes of `ss`.
        ss_ar: u16 = 108,
        /// Attributes of `es`.
        es_ar: u16 = 110,
        /// Attributes of `tr`.
        tr_ar: u16 = 112,
        /// Zero.
        pad2: [u8; 6] = 114,
    }

    /// The registers of a vCPU that starts in 64-bit mode.
    "vcpu_hvm_x86_64" 112
    pub struct VcpuHvmX8664 {
        /// `rax`.
        rax: u64 = 0,
        /// `rcx`.
        rcx: u64 = 8,
        /// `rdx`.
        rdx: u64 = 16,
        /// `rbx`.
        rbx: u64 = 24,
        /// `rsp`.
        rsp: u64 = 32,
        /// `rbp`.
        rbp: u64 = 40,
        /// `rsi`.
        rsi: u64 = 48,
        /// `rdi`.
        rdi: u64 = 56,
        /// `rip`.
        rip: u64 = 64,
        /// `rflags`.
        rflags: u64 = 72,
        /// `cr0`.
        cr0: u64 = 80,
        /// `cr3`.
        cr3: u64 = 88,
        /// `cr4`.
        cr4: u64 = 96,
        /// `efer`.
        efer: u64 = 104,
    }

    /// What a vCPU starts with: the argument of
    /// [`crate::vcpu::initialise_hvm`].
    "vcpu_hvm_context" 128
    pub struct VcpuHvmContext {
        /// `VCPU_HVM_MODE_*`.
        mode: u32 = 0,
        /// Zero.
        pad: u32 = 4,
        /// [`VcpuHvmX8632`] or [`VcpuHvmX8664`].
        cpu_regs: [u64; 15] = 8,
    }
}
