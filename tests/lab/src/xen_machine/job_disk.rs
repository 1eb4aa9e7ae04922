//! The disk by which a job comes in: an archive, and at its end the disks that the
//! guest only reads. Those are lent to the guest where they lie, and take none of
//! domain 0's memory.

use std::{fs, os::unix::fs::FileExt, path::Path};

use anyhow::{Result, ensure};

/// Bytes of the disk. A saved machine wants the same size again.
pub(crate) const JOB_DISK_BYTES: u64 = 256 << 20;
/// What disks begin at a multiple of.
const ALIGN_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;

/// A disk that the guest only reads.
pub(crate) struct Lent {
    /// Which of the guest's it is.
    pub(crate) index: usize,
    pub(crate) content: Vec<u8>,
}

/// Where disks lie: the first at the end, each in front of the one before.
fn places(lent: &[Lent]) -> Result<Vec<u64>> {
    let mut end = JOB_DISK_BYTES;
    let place = |disk: &Lent| {
        let bytes = (disk.content.len() as u64).next_multiple_of(ALIGN_BYTES);
        ensure!(
            bytes <= end,
            "the disks are too large for the lab's job disk"
        );
        end -= bytes;
        Ok(end)
    };
    lent.iter().map(place).collect()
}

/// A line for each disk, as the job reads it: which, its first sector, how many.
pub(crate) fn list(lent: &[Lent]) -> Result<String> {
    let line = |(disk, at): (&Lent, u64)| {
        let sectors = disk.content.len() as u64 / SECTOR_BYTES;
        format!("{} {} {sectors}\n", disk.index, at / SECTOR_BYTES)
    };
    Ok(lent.iter().zip(places(lent)?).map(line).collect())
}

/// Writes it: an archive of files, and disks.
pub(crate) fn write(path: &Path, files: &[(&str, Vec<u8>)], lent: &[Lent]) -> Result<()> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    let archive = archive.into_inner()?;
    let places = places(lent)?;
    let room = places.last().copied().unwrap_or(JOB_DISK_BYTES);
    ensure!(
        archive.len() as u64 <= room,
        "the guest and its disks are too large for the lab's job disk"
    );
    let file = fs::File::create(path)?;
    file.set_len(JOB_DISK_BYTES)?;
    file.write_all_at(&archive, 0)?;
    for (disk, at) in lent.iter().zip(places) {
        file.write_all_at(&disk.content, at)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_lie_at_the_end() {
        let lent = |index, bytes| Lent {
            index,
            content: vec![index as u8; bytes],
        };
        let disks = [lent(1, 10_000), lent(3, 1024)];
        let first = JOB_DISK_BYTES - 3 * ALIGN_BYTES;
        assert_eq!(
            list(&disks).unwrap(),
            format!(
                "1 {} 19\n3 {} 2\n",
                first / SECTOR_BYTES,
                (first - ALIGN_BYTES) / SECTOR_BYTES
            )
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job");
        write(&path, &[("run.sh", b"true".to_vec())], &disks).unwrap();
        let file = fs::File::open(path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), JOB_DISK_BYTES);
        let mut bytes = [9; 2];
        file.read_exact_at(&mut bytes, first).unwrap();
        assert_eq!(bytes, [1, 1]);
        file.read_exact_at(&mut bytes, first - ALIGN_BYTES + 1023)
            .unwrap();
        assert_eq!(bytes, [3, 0]);
    }

    #[test]
    fn what_has_no_room_is_told() {
        let disk = Lent {
            index: 0,
            content: vec![0; JOB_DISK_BYTES as usize],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job");
        assert!(write(&path, &[("run.sh", Vec::new())], &[disk]).is_err());
    }
}
