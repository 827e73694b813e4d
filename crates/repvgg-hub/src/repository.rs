//! The name of a repository.

use std::fmt;

use repvgg::error::expected;
use repvgg::{Error, Result};

/// The prefix that distinguishes a repository from a file.
const PREFIX: &str = "hf:";

/// The default revision.
const DEFAULT_REVISION: &str = "main";

/// `hf:OWNER/NAME[@REVISION]`; the revision is a branch, a tag, a commit, or a reference such as `refs/pr/1`.
///
/// ```
/// use repvgg_hub::Repository;
///
/// let repository = Repository::parse("hf:timm/repvgg_a0.rvgg_in1k")?;
/// assert_eq!((repository.id(), repository.revision()), ("timm/repvgg_a0.rvgg_in1k", "main"));
/// # Ok::<(), repvgg::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    id: String,
    revision: Option<String>,
}

impl Repository {
    /// Whether `text` begins with `hf:`, which marks a repository rather than a file.
    pub fn has_prefix(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Parses the name of a repository.
    ///
    /// # Errors
    /// When `text` has another form than `hf:OWNER/NAME[@REVISION]`, or characters that names on a hub do not have.
    pub fn parse(text: &str) -> Result<Self> {
        // Without the prefix the name is empty, which the checks below refuse.
        let name = text.strip_prefix(PREFIX).unwrap_or_default();
        let (id, revision) = name.split_once('@').map_or((name, None), |(id, revision)| (id, Some(revision)));
        let id_is_valid = id.len() <= 96 && id.split('/').count() == 2 && id.split('/').all(is_name);
        let revision_is_valid = revision.is_none_or(|text| text.len() <= 96 && text.split('/').all(is_plain));
        if id_is_valid && revision_is_valid {
            return Ok(Self { id: id.to_owned(), revision: revision.map(str::to_owned) });
        }
        let text: String = text.chars().take(120).collect();
        Err(Error::spec(
            "repository",
            expected("hf:OWNER/NAME or hf:OWNER/NAME@REVISION").found(format_args!("{text:?}")),
        ))
    }

    /// `OWNER/NAME`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The revision; `main` by default.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.id)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Whether `text` is an owner or the name of a repository. The cache writes `--` for `/`, so names must not contain it.
fn is_name(text: &str) -> bool {
    is_plain(text) && !text.contains("--") && !text.starts_with('-') && !text.ends_with(['-', '.'])
}

/// Whether `text` is a part of a path that means the same in an address and in any file system.
pub(crate) fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+=".contains(&byte);
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('.') && !text.contains("..")
}

/// Whether `text` is the full name of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for (text, id, revision) in [
            ("hf:timm/repvgg_a0.rvgg_in1k", "timm/repvgg_a0.rvgg_in1k", "main"),
            ("hf:timm/repvgg_a0@v1.0", "timm/repvgg_a0", "v1.0"),
            ("hf:a/b@refs/pr/3", "a/b", "refs/pr/3"),
            ("hf:a/b@0123456789012345678901234567890123456789", "a/b", "0123456789012345678901234567890123456789"),
        ] {
            let repository = Repository::parse(text).unwrap();
            assert_eq!((repository.id(), repository.revision()), (id, revision));
            assert_eq!(repository.to_string(), text);
            assert!(Repository::has_prefix(text));
        }
        assert!(!Repository::has_prefix("model.safetensors"));
    }

    #[test]
    fn names_that_could_escape_the_cache_or_the_address_are_refused() {
        let odd = [
            "",
            "a",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "a//b",
            "../b",
            "a/..",
            "a/.b",
            "a/b..c",
            "a b/c",
            "a/b?x=1",
            "a/b#c",
            "a/b%2f",
            "a\\b/c",
            "a/b\n",
            "é/b",
            "a--b/c",
            "-a/b",
            "a/b-",
            "a/b@",
            "a/b@..",
            "a/b@x/../y",
            "a/b@/x",
            "a/b@x//y",
            "a/b@x@y",
            "a/b@x y",
        ];
        for name in odd {
            let error = Repository::parse(&format!("hf:{name}")).unwrap_err().to_string();
            assert!(
                error.starts_with("repository: expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION, found "),
                "{error}"
            );
            assert!(!error.contains('\n'));
        }
        assert!(Repository::parse("a/b").is_err());
        assert!(Repository::parse(&format!("hf:a/{}", "b".repeat(1000))).unwrap_err().to_string().len() < 250);
    }
}
