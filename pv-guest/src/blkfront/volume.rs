//! A part of a disk, by bytes.

use alloc::vec;

use hypercall_abi::platform::Platform;

use super::{Disk, Error, SECTOR_BYTES, Sector};
use crate::Current;

/// A row of sectors of a disk: a partition, or all of it. What file systems read
/// and write.
pub struct Volume<'g, P: Platform = Current> {
    disk: Disk<'g, P>,
    first: Sector,
    sectors: u64,
}

impl<P: Platform> Clone for Volume<'_, P> {
    fn clone(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            ..*self
        }
    }
}

impl<P: Platform> core::fmt::Debug for Volume<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Volume")
            .field("disk", &self.disk)
            .field("first", &self.first)
            .field("sectors", &self.sectors)
            .finish()
    }
}

impl<'g, P: Platform> Volume<'g, P> {
    /// All of a disk, as large as it is now.
    ///
    /// # Errors
    /// [`Error`]: it cannot be connected.
    pub async fn whole(disk: &Disk<'g, P>) -> Result<Self, Error> {
        let sectors = disk.ready().await?.sectors;
        Ok(Self {
            disk: disk.clone(),
            first: Sector(0),
            sectors,
        })
    }

    /// `sectors` of these from `first` on, a partition say.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn part(&self, first: Sector, sectors: u64) -> Result<Self, Error> {
        let end = first.0.checked_add(sectors).ok_or(Error::OutOfRange)?;
        if end > self.sectors {
            return Err(Error::OutOfRange);
        }
        Ok(Self {
            disk: self.disk.clone(),
            first: Sector(self.first.0 + first.0),
            sectors,
        })
    }

    /// The disk.
    pub const fn disk(&self) -> &Disk<'g, P> {
        &self.disk
    }

    /// Its sectors, of [`SECTOR_BYTES`].
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Where `len_bytes` bytes from `first` of this volume on lie on the disk.
    fn place(&self, first: Sector, len_bytes: usize) -> Result<Sector, Error> {
        let end = first.0.checked_add(len_bytes.div_ceil(SECTOR_BYTES) as u64);
        match end {
            Some(end) if end <= self.sectors => Ok(Sector(self.first.0 + first.0)),
            _ => Err(Error::OutOfRange),
        }
    }

    /// [`Disk::read_vectored`], of this volume's sectors.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read(&self, first: Sector, targets: &mut [&mut [u8]]) -> Result<(), Error> {
        let len = targets.iter().map(|target| target.len()).sum();
        let first = self.place(first, len)?;
        self.disk.read_vectored(first, targets).await
    }

    /// [`Disk::write_vectored`], of this volume's sectors.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(&self, first: Sector, sources: &[&[u8]]) -> Result<(), Error> {
        let len = sources.iter().map(|source| source.len()).sum();
        let first = self.place(first, len)?;
        self.disk.write_vectored(first, sources).await
    }

    /// Reads from any byte on, whole sectors or not.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read_at(&self, offset_bytes: u64, target: &mut [u8]) -> Result<(), Error> {
        let unit = match self.disk.geometry() {
            Some(geometry) => u64::from(geometry.sector_bytes),
            None => u64::from(self.disk.ready().await?.sector_bytes),
        };
        let len = target.len() as u64;
        let end = offset_bytes.checked_add(len).ok_or(Error::OutOfRange)?;
        let start = offset_bytes / unit * unit;
        let stop = end.checked_next_multiple_of(unit);
        let stop = stop.ok_or(Error::OutOfRange)?;
        let first = Sector(start / SECTOR_BYTES as u64);
        if (start, stop) == (offset_bytes, end) {
            return self.read(first, &mut [target]).await;
        }
        let bytes = usize::try_from(stop - start).map_err(|_| Error::OutOfRange)?;
        let mut all = vec![0; bytes];
        self.read(first, &mut [&mut all]).await?;
        let skip = (offset_bytes - start) as usize;
        let wanted = all.get(skip..skip + target.len());
        target.copy_from_slice(wanted.ok_or(Error::OutOfRange)?);
        Ok(())
    }
}
