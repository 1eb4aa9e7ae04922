//! A part of a disk, by bytes.

use hypercall_abi::platform::Platform;

use super::{Disk, Error, SECTOR_BYTES, Sector};

/// A row of sectors of a disk: a partition, or all of it. What file systems read
/// and write.
pub struct Volume<'g, P: Platform> {
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

    /// [`Disk::read_vectored`], of this volume's sectors, also where the disk's own are
    /// larger than [`SECTOR_BYTES`]: then more is read than is wanted.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read(&self, first: Sector, targets: &mut [&mut [u8]]) -> Result<(), Error> {
        let len = targets.iter().map(|target| target.len()).sum();
        if !usize::is_multiple_of(len, SECTOR_BYTES) {
            return Err(Error::Unaligned);
        }
        let first = self.place(first, len)?;
        let offset_bytes = first.0.checked_mul(SECTOR_BYTES as u64);
        let offset_bytes = offset_bytes.ok_or(Error::OutOfRange)?;
        self.disk.read_any(offset_bytes, targets).await
    }

    /// [`Disk::write_vectored`], of this volume's sectors. Where the disk's own are larger
    /// than [`SECTOR_BYTES`], those that are written in part are read first, and written
    /// whole; nothing else is written to them meanwhile by handles of this disk.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(&self, first: Sector, sources: &[&[u8]]) -> Result<(), Error> {
        let len = sources.iter().map(|source| source.len()).sum();
        let first = self.place(first, len)?;
        self.disk.write_any(first, sources).await
    }

    /// Reads from any byte on, whole sectors or not.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read_at(&self, offset_bytes: u64, target: &mut [u8]) -> Result<(), Error> {
        let len = u64::try_from(target.len()).map_err(|_| Error::OutOfRange)?;
        let end = offset_bytes.checked_add(len).ok_or(Error::OutOfRange)?;
        if end.div_ceil(SECTOR_BYTES as u64) > self.sectors {
            return Err(Error::OutOfRange);
        }
        let before = self.first.0.checked_mul(SECTOR_BYTES as u64);
        let offset_bytes = before.and_then(|before| before.checked_add(offset_bytes));
        let offset_bytes = offset_bytes.ok_or(Error::OutOfRange)?;
        self.disk.read_any(offset_bytes, &mut [target]).await
    }
}
