//! The numbers of disks, and their names.

/// A disk's number, as its device is called on the bus: what kind of disk it
/// pretends to be, which of them, and which partition.
///
/// ```
/// use pv_guest::blkfront::Vdev;
///
/// assert_eq!("xvda".parse::<Vdev>()?.to_string(), "xvda");
/// assert_eq!("xvda".parse::<Vdev>()?.0, 51712);
/// assert_eq!("xvdz2".parse::<Vdev>()?.0, (1 << 28) | (25 << 8) | 2);
/// assert_eq!(Vdev(768).to_string(), "hda");
/// assert_eq!(Vdev((8 << 8) | 17).to_string(), "sdb1");
/// # Ok::<(), pv_guest::blkfront::NoVdev>(())
/// ```
///
/// Source: `docs/man/xen-vbd-interface.7.pandoc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vdev(pub u32);

/// This is no name of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoVdev;

impl core::fmt::Display for NoVdev {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("this is no name of a disk: xvda, xvdb1, hda or sda, say")
    }
}

impl core::error::Error for NoVdev {}

const EXTENDED: u32 = 1 << 28;
const XVD_MAJOR: u32 = 202;
const SD_MAJOR: u32 = 8;
const HD_MAJORS: [u32; 2] = [3, 22];

impl Vdev {
    /// The prefix of its name, which disk, and which partition (0: all of it).
    fn split(self) -> Option<(&'static str, u32, u32)> {
        if self.0 & EXTENDED != 0 {
            return Some(("xvd", (self.0 & !EXTENDED) >> 8, self.0 & 0xff));
        }
        let minor = self.0 & 0xff;
        match self.0 >> 8 {
            XVD_MAJOR => Some(("xvd", minor >> 4, minor & 15)),
            SD_MAJOR => Some(("sd", minor >> 4, minor & 15)),
            major => {
                let pair = HD_MAJORS.iter().position(|known| *known == major)?;
                Some(("hd", pair as u32 * 2 + (minor >> 6), minor & 63))
            }
        }
    }
}

/// `a` to `z`, `aa` and on.
fn letters(f: &mut core::fmt::Formatter<'_>, disk: u32) -> core::fmt::Result {
    if disk >= 26 {
        letters(f, disk / 26 - 1)?;
    }
    let letter = char::from(b'a' + (disk % 26) as u8);
    write!(f, "{letter}")
}

impl core::fmt::Display for Vdev {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Some((prefix, disk, partition)) = self.split() else {
            return self.0.fmt(f);
        };
        f.write_str(prefix)?;
        letters(f, disk)?;
        match partition {
            0 => Ok(()),
            partition => partition.fmt(f),
        }
    }
}

impl core::str::FromStr for Vdev {
    type Err = NoVdev;

    /// A name, or the number itself.
    fn from_str(text: &str) -> Result<Self, NoVdev> {
        if let Ok(number) = text.parse() {
            return Ok(Self(number));
        }
        let (prefix, rest) = ["xvd", "sd", "hd"]
            .iter()
            .find_map(|prefix| Some((*prefix, text.strip_prefix(prefix)?)))
            .ok_or(NoVdev)?;
        let end = rest
            .find(|letter: char| !letter.is_ascii_lowercase())
            .unwrap_or(rest.len());
        let (name, partition) = rest.split_at(end);
        let disk = name.bytes().try_fold(0_u32, |disk, letter| {
            let digit = u32::from(letter - b'a') + 1;
            disk.checked_mul(26)?.checked_add(digit)
        });
        let disk = disk.and_then(|disk| disk.checked_sub(1)).ok_or(NoVdev)?;
        let partition: u32 = match partition {
            "" => 0,
            digits => digits.parse().map_err(|_| NoVdev)?,
        };
        match (prefix, disk, partition) {
            ("xvd", 0..=15, 0..=15) => Ok(Self(XVD_MAJOR << 8 | disk << 4 | partition)),
            ("xvd", 0..=0xf_ffff, 0..=255) => Ok(Self(EXTENDED | disk << 8 | partition)),
            ("sd", 0..=15, 0..=15) => Ok(Self(SD_MAJOR << 8 | disk << 4 | partition)),
            ("hd", 0..=3, 0..=63) => {
                let major = HD_MAJORS.get(disk as usize / 2).ok_or(NoVdev)?;
                Ok(Self(major << 8 | (disk % 2) << 6 | partition))
            }
            _ => Err(NoVdev),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for name in [
            "xvda", "xvdp15", "xvdq", "xvdaa3", "sda", "sdp1", "hda", "hdd7",
        ] {
            let vdev: Vdev = name.parse().unwrap();
            assert_eq!(vdev.to_string(), name);
            assert_eq!(vdev.0.to_string().parse(), Ok(vdev));
        }
        for name in [
            "",
            "xvd",
            "xvd1",
            "vda",
            "hde",
            "xvda1x",
            "sdq",
            "xvd\u{e9}",
            "xvdzzzzzzzz",
        ] {
            assert_eq!(name.parse::<Vdev>(), Err(NoVdev), "{name}");
        }
        assert_eq!(Vdev(12345).to_string(), "12345");
    }
}
