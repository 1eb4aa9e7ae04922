//! `block-device-driver`: the async trait of block devices, for a [`Volume`].

use aligned::{A4, Aligned};
use alloc::vec::Vec;
use block_device_driver::BlockDevice;
use hypercall_abi::platform::Platform;

use crate::blkfront::{Error, SECTOR_BYTES, Sector, Volume};

impl<P: Platform> BlockDevice<SECTOR_BYTES> for Volume<'_, P> {
    type Error = Error;
    type Align = A4;

    async fn read(
        &mut self,
        first: u32,
        blocks: &mut [Aligned<A4, [u8; SECTOR_BYTES]>],
    ) -> Result<(), Error> {
        let blocks = blocks.iter_mut().map(|block| block.as_mut_slice());
        let mut blocks: Vec<&mut [u8]> = blocks.collect();
        Volume::read(self, Sector(first.into()), &mut blocks).await
    }

    async fn write(
        &mut self,
        first: u32,
        blocks: &[Aligned<A4, [u8; SECTOR_BYTES]>],
    ) -> Result<(), Error> {
        let blocks: Vec<&[u8]> = blocks.iter().map(|block| block.as_slice()).collect();
        Volume::write(self, Sector(first.into()), &blocks).await
    }

    async fn size(&mut self) -> Result<u64, Error> {
        Ok(self.sectors() * SECTOR_BYTES as u64)
    }
}
