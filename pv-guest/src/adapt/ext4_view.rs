//! `ext4-view`: ext2, ext3 and ext4 file systems on a [`Volume`], for reading.

use alloc::boxed::Box;

use ext4_view::Ext4Read;

use crate::{blkfront::Volume, executor::block_on};

impl Ext4Read for Volume<'static> {
    fn read(
        &mut self,
        start_byte: u64,
        target: &mut [u8],
    ) -> Result<(), Box<dyn core::error::Error + Send + Sync + 'static>> {
        block_on(self.read_at(start_byte, target)).map_err(|error| Box::new(error).into())
    }
}
