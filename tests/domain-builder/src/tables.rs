//! The entries of the first page tables, with the bits that Xen's builder gives them. What
//! Xen itself adds when it takes the tables, the hypervisor here adds, too.

use crate::{
    PAGE, Plan,
    layout::{Table, reach},
};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

/// An entry that leads to a table.
const TO_TABLE: u64 = PRESENT | WRITE | USER | ACCESSED | DIRTY;
/// One that leads to a page that may only be read.
const TO_READ: u64 = PRESENT | ACCESSED;
const TO_WRITE: u64 = TO_READ | WRITE;

impl Plan<'_> {
    /// The entries of one of the tables, as words.
    pub(crate) fn entries(&self, table: &Table, mfn_of: &dyn Fn(u64) -> u64) -> [u64; 512] {
        let mut entries = [0; 512];
        let mut address = table.start;
        for entry in &mut entries {
            *entry = if table.level == 1 {
                self.page_entry(address, mfn_of)
            } else {
                self.table_entry(address, table.level - 1, mfn_of)
            };
            address += reach(table.level) / 512;
        }
        entries
    }

    fn table_entry(&self, address: u64, level: u8, mfn_of: &dyn Fn(u64) -> u64) -> u64 {
        let below = self
            .tables
            .iter()
            .find(|below| below.level == level && below.start == address);
        below.map_or(0, |below| (mfn_of(below.pfn) * PAGE) | TO_TABLE)
    }

    fn page_entry(&self, address: u64, mfn_of: &dyn Fn(u64) -> u64) -> u64 {
        let list = self.frame_list_address
            ..self.frame_list_address + (self.frame_list.end - self.frame_list.start) * PAGE;
        let pfn = if self.mapped.contains(&address) {
            (address - self.virt_base) / PAGE
        } else if list.contains(&address) {
            self.frame_list.start + (address - list.start) / PAGE
        } else {
            return 0;
        };
        let is_table = self.tables.iter().any(|table| table.pfn == pfn);
        (mfn_of(pfn) * PAGE) | if is_table { TO_READ } else { TO_WRITE }
    }
}
