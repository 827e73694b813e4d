//! Settings of the hub, from the environment variables that all of its clients read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use repvgg::error::expected;
use repvgg::file::read_bounded;
use repvgg::{Error, Result};

/// The default address of the hub.
const ENDPOINT: &str = "https://huggingface.co";

/// The default time to wait for a silent server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The hub, the cache and the user's token. Not `Debug`, so that no message ever shows the token.
#[derive(Clone)]
pub struct Settings {
    /// The folder that holds `models--OWNER--NAME`.
    pub cache: PathBuf,
    /// The address of the hub, without a trailing slash.
    pub endpoint: String,
    /// The secret that grants access to private and gated repositories.
    pub token: Option<String>,
    /// Whether only the cache is used.
    pub offline: bool,
    /// The time to wait for a silent server.
    pub timeout: Duration,
}

impl Settings {
    /// Reads the settings from the environment. The first of several that applies wins:
    ///
    /// * cache: `HF_HUB_CACHE`, `$HF_HOME/hub`, `$XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub`;
    /// * token: `HF_TOKEN`, the file `HF_TOKEN_PATH`, `$HF_HOME/token`; with `HF_HUB_DISABLE_IMPLICIT_TOKEN`, only the first;
    /// * address: `HF_ENDPOINT`; timeout: `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds;
    /// * offline: `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`.
    ///
    /// # Errors
    /// When there is no home folder, the file of the token cannot be read, or the token has characters that cannot be sent.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_true = |name: &str| set(name).is_some_and(|value| is_true(&value));
        let folder = |name: &str| set(name).map(PathBuf::from);
        let home = || {
            let cache = folder("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
            folder("HF_HOME").or_else(|| cache.map(|cache| cache.join("huggingface")))
        };
        let no_home =
            || Error::spec("HF_HOME", expected("a folder for the cache").found("none and no home folder either"));
        let cache = folder("HF_HUB_CACHE").or_else(|| home().map(|home| home.join("hub"))).ok_or_else(no_home)?;
        let token = match set("HF_TOKEN") {
            Some(token) => Some(token),
            None if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            None => folder("HF_TOKEN_PATH")
                .or_else(|| home().map(|home| home.join("token")))
                .map_or(Ok(None), |path| read_token(&path))?,
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::spec("HF_TOKEN", expected("printable characters without spaces").found("others")));
        }
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let seconds = set("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|seconds| seconds.parse().ok());
        Ok(Self {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .into_iter()
                .find_map(set)
                .is_some_and(|value| self::is_true(&value)),
            timeout: seconds.filter(|seconds| (1..=3600).contains(seconds)).map_or(TIMEOUT, Duration::from_secs),
        })
    }
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

/// The token that a login stored, if there is one.
fn read_token(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8(read_bounded(path, 1 << 12)?);
    text.map(Some).map_err(|_| Error::format(path.display(), expected("a token").found("binary data")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        let value =
            |name: &str| variables.iter().find(|variable| variable.0 == name).map(|variable| variable.1.to_owned());
        Settings::from_variables(value)
    }

    #[test]
    fn the_cache_is_that_of_the_other_clients() {
        for (variables, cache) in [
            (&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")][..], "/c"),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "")], "/x/huggingface/hub"),
        ] {
            assert_eq!(settings(variables).unwrap().cache, Path::new(cache));
        }
    }

    #[test]
    fn the_endpoint_and_the_timeout_have_defaults() {
        let default = settings(&[("HF_HOME", "/h")]).unwrap();
        assert_eq!((default.endpoint.as_str(), default.timeout), (ENDPOINT, TIMEOUT));
        let ours =
            settings(&[("HF_HOME", "/h"), ("HF_ENDPOINT", "http://mirror:8080/hf/"), ("HF_HUB_DOWNLOAD_TIMEOUT", "7")])
                .unwrap();
        assert_eq!((ours.endpoint.as_str(), ours.timeout), ("http://mirror:8080/hf", Duration::from_secs(7)));
    }

    #[test]
    fn offline_accepts_the_values_of_the_other_clients() {
        for (value, expected) in
            [("1", true), ("YES", true), ("true", true), ("On", true), ("0", false), ("", false), ("no", false)]
        {
            assert_eq!(settings(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", value)]).unwrap().offline, expected, "{value}");
        }
        assert!(settings(&[("HF_HOME", "/h"), ("TRANSFORMERS_OFFLINE", "1")]).unwrap().offline);
    }

    #[test]
    fn the_token_comes_from_the_variable_else_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).unwrap().token, None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).unwrap().token.as_deref(), Some("hf_file"));
        assert_eq!(
            settings(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable ")]).unwrap().token.as_deref(),
            Some("hf_variable")
        );
        let none = settings(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap();
        assert_eq!(none.token, None);
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_without_being_shown() {
        let error = settings(&[("HF_HOME", "/h"), ("HF_TOKEN", "secret\r\nX: y")]).err().unwrap().to_string();
        assert_eq!(error, "HF_TOKEN: expected printable characters without spaces, found others");
    }
}
