//! The hash that identifies a file's content on the hub.

use std::io::{self, Read};

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// A hash from the hub's `ETag`, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// The hash of a file in large-file storage.
    Sha256(String),
    /// The hash of a file in the git repository itself: of `blob SIZE\0` followed by the content.
    GitBlob(String),
}

impl Checksum {
    /// Parses an `ETag`, which is quoted and may be weak.
    pub(crate) fn from_etag(etag: &str) -> Option<Self> {
        let digits = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_ascii_lowercase();
        match digits.len() {
            _ if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
            64 => Some(Self::Sha256(digits)),
            40 => Some(Self::GitBlob(digits)),
            _ => None,
        }
    }

    /// The digits, which also name the file in the cache.
    pub(crate) fn digits(&self) -> &str {
        let (Self::Sha256(digits) | Self::GitBlob(digits)) = self;
        digits
    }

    /// The name of the hash function.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git blob SHA-1",
        }
    }

    /// Computes the digits for `content`, which has `size` bytes, with the same hash function.
    pub(crate) fn of(&self, content: &mut impl Read, size: u64) -> io::Result<String> {
        match self {
            Self::Sha256(_) => digest(Sha256::new(), content),
            Self::GitBlob(_) => digest(Sha1::new_with_prefix(format!("blob {size}\0")), content),
        }
    }
}

fn digest(mut hasher: impl Digest, content: &mut impl Read) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // `printf hello | sha256sum`, `printf hello | git hash-object --stdin`.
    const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const GIT: &str = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";

    #[test]
    fn both_hashes_match_the_common_tools() {
        for etag in [format!("\"{SHA256}\""), format!("W/\"{GIT}\""), GIT.to_ascii_uppercase()] {
            let checksum = Checksum::from_etag(&etag).unwrap();
            assert_eq!(checksum.of(&mut &b"hello"[..], 5).unwrap(), checksum.digits());
            assert_ne!(checksum.of(&mut &b"hallo"[..], 5).unwrap(), checksum.digits());
        }
    }

    #[test]
    fn other_etags_give_no_checksum() {
        for etag in [
            "",
            "\"\"",
            "../../x",
            "\"d41d8cd98f00b204e9800998ecf8427e\"",
            "\"d41d8cd98f00b204e9800998ecf8427e-3\"",
            &"g".repeat(40),
        ] {
            assert_eq!(Checksum::from_etag(etag), None);
        }
    }
}
