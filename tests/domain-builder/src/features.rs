//! What a kernel may ask of its hypervisor, by name.

use crate::Refused;

/// The names, and whether an ordinary 64-bit PV guest can have it:
/// `xen/include/public/features.h`.
const NAMES: [(&str, bool); 12] = [
    ("writable_page_tables", false),
    ("writable_descriptor_tables", false),
    ("auto_translated_physmap", false),
    ("supervisor_mode_kernel", false),
    ("pae_pgdir_above_4gb", true),
    ("mmu_pt_update_preserve_ad", true),
    ("highmem_assist", false),
    ("gnttab_map_avail_bits", true),
    ("hvm_callback_vector", false),
    ("hvm_safe_pvclock", false),
    ("hvm_pirqs", false),
    ("dom0", false),
];

/// Checks a list like `!dom0|pae_pgdir_above_4gb`: what is behind `!` is required.
pub(crate) fn check(list: &str) -> Result<(), Refused> {
    for name in list.split(['|', ' ']).filter(|name| !name.is_empty()) {
        let Some(name) = name.strip_prefix('!') else {
            continue;
        };
        let known = NAMES.iter().find(|(known, _)| *known == name);
        if !known.is_some_and(|(_, has)| *has) {
            return Err(Refused::Feature(name.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_must_be_there() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("writable_page_tables|dom0 unheard_of"), Ok(()));
        assert_eq!(check("!pae_pgdir_above_4gb|x"), Ok(()));
        for name in ["dom0", "unheard_of", "auto_translated_physmap"] {
            let refused = check(&format!("pae_pgdir_above_4gb|!{name}"));
            assert_eq!(refused, Err(Refused::Feature(name.to_owned())));
        }
    }
}
