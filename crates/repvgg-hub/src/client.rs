//! Sends requests to the hub and interprets its responses.

use std::time::Duration;

use hf_hub::api::RepoInfo;
use repvgg::error::{Problem, expected};
use repvgg::{Error, ErrorKind, Result};
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderName, LOCATION, RANGE};
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ureq::{Agent, Body, ResponseExt, Timeout};

use crate::cache::repo;
use crate::checksum::Checksum;
use crate::{Repository, Settings};

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 10;

/// The longest accepted description of a repository, in bytes.
const MAX_INFO: u64 = 16 << 20;

/// The slowest accepted connection, in bytes per second.
const MIN_RATE: u64 = 1 << 10;

/// The description of a revision of a repository.
pub(crate) struct Info {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// The description of a file, before it is fetched.
pub(crate) struct Remote {
    pub(crate) checksum: Checksum,
    pub(crate) size: u64,
}

/// A connection to one hub.
pub(crate) struct Client<'a> {
    settings: &'a Settings,
    endpoint: Uri,
    agent: Agent,
}

impl<'a> Client<'a> {
    pub(crate) fn new(settings: &'a Settings) -> Result<Self> {
        let endpoint = settings.endpoint.parse().ok().filter(|uri: &Uri| uri.host().is_some() && is_web(uri));
        let expected =
            || expected("an address such as https://huggingface.co").found(format_args!("{:?}", settings.endpoint));
        let endpoint = endpoint.ok_or_else(|| Error::spec("HF_ENDPOINT", expected()))?;
        let timeout = Some(settings.timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("repvgg/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            .timeout_recv_response(timeout)
            .build();
        Ok(Self { settings, endpoint, agent: config.into() })
    }

    /// Requests the commit and the file names of `repository`.
    pub(crate) fn info(&self, repository: &Repository) -> Result<Info> {
        let path = repo(repository.id(), repository.revision()).api_url();
        let mut response =
            self.send(Method::GET, &format!("{}/api/{path}", self.settings.endpoint), 0, MAX_INFO, follow_all)?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(&response, "no such repository or revision, or it is private"));
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_INFO)
            .read_to_vec()
            .map_err(|error| self.unreachable(&self.endpoint, &error))?;
        let unexpected = |found| self.unexpected(expected("the description of a repository").found(found));
        let info: RepoInfo = serde_json::from_slice(&body).map_err(|error| unexpected(error.to_string()))?;
        if !crate::repository::is_commit(&info.sha) {
            return Err(unexpected(format!("the commit {}", quoted(&info.sha))));
        }
        Ok(Info { commit: info.sha, files: info.siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// Requests the hash and size of the file `name` of `commit` from the hub itself.
    pub(crate) fn describe(&self, id: &str, commit: &str, name: &str) -> Result<Remote> {
        // The hub describes a file itself before it redirects to other storage.
        let is_final = |response: &Response<Body>, next: &Uri| {
            let linked = [LINKED_ETAG, LINKED_SIZE].iter().all(|name| response.headers().contains_key(name));
            linked || !self.is_own_host(next)
        };
        let response = self.send(Method::HEAD, &self.file(id, commit, name), 0, 0, is_final)?;
        let is_success = response.status().is_success();
        if !is_success && !response.status().is_redirection() {
            return Err(self.refusal(&response, "no such file"));
        }
        let headers = response.headers();
        let etag = text(headers, LINKED_ETAG).or_else(|| text(headers, ETAG)).unwrap_or("none");
        // The length of a redirect is that of its own body.
        let length = text(headers, CONTENT_LENGTH).filter(|_| is_success);
        let size = text(headers, LINKED_SIZE).or(length).unwrap_or("none");
        let checksum = Checksum::from_etag(etag)
            .ok_or_else(|| self.unexpected(expected("an ETag that is a SHA-256 or git's SHA-1").found(quoted(etag))))?;
        let bytes = size.parse();
        let size = bytes.map_err(|_| self.unexpected(expected("the size of the file").found(quoted(size))))?;
        Ok(Remote { checksum, size })
    }

    /// Requests the bytes from `from` to `size` of the file `name` of `commit`. A server may send the whole file instead.
    pub(crate) fn open(&self, id: &str, commit: &str, name: &str, from: u64, size: u64) -> Result<Response<Body>> {
        let response = self.send(Method::GET, &self.file(id, commit, name), from, size - from, follow_all)?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            _ => Err(self.refusal(&response, "no such file")),
        }
    }

    /// The error for a host that cannot be reached.
    fn unreachable(&self, uri: &Uri, error: &ureq::Error) -> Error {
        let problem = format!("{} cannot be reached: {}", host(uri), self.describe_failure(error));
        Error::new(ErrorKind::Io, format!("{problem}; HF_HUB_OFFLINE=1 uses the cache alone"))
    }

    /// Describes why no response arrived.
    pub(crate) fn describe_failure(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(Timeout::RecvBody) => format!("fewer than {MIN_RATE} bytes per second arrived"),
            ureq::Error::Timeout(_) => format!("no data for {} s", self.settings.timeout.as_secs_f32()),
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        }
    }

    /// The error for an unexpected response of the hub.
    fn unexpected(&self, problem: Problem) -> Error {
        Error::format(host(&self.endpoint), problem)
    }

    fn file(&self, id: &str, commit: &str, name: &str) -> String {
        let repo = repo(id, commit);
        format!("{}/{}/resolve/{}/{name}", self.settings.endpoint, repo.url(), repo.url_revision())
    }

    /// Whether `uri` is on the hub's own host, the only one that receives the token.
    fn is_own_host(&self, uri: &Uri) -> bool {
        (uri.scheme(), uri.authority()) == (self.endpoint.scheme(), self.endpoint.authority())
    }

    /// Sends a request for about `length` bytes from `from` on, and follows redirects until `is_final` accepts one.
    fn send(
        &self,
        method: Method,
        address: &str,
        from: u64,
        length: u64,
        is_final: impl Fn(&Response<Body>, &Uri) -> bool,
    ) -> Result<Response<Body>> {
        let no_address = |found: &str| self.unexpected(expected("an address").found(quoted(found)));
        let mut uri: Uri = address.parse().map_err(|_| no_address(address))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(&method).uri(&uri).header(ACCEPT_ENCODING, "identity");
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_own_host(&uri)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|error| self.unreachable(&uri, &error.into()))?;
            let longest = self.settings.timeout + Duration::from_secs(length / MIN_RATE);
            let request = self.agent.configure_request(request).timeout_recv_body(Some(longest)).build();
            let response = self.agent.run(request).map_err(|error| self.unreachable(&uri, &error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = text(response.headers(), LOCATION).unwrap_or("none");
            let next = resolve(&uri, location).ok_or_else(|| no_address(location))?;
            if is_final(&response, &next) {
                return Ok(response);
            }
            uri = next;
        }
        Err(self.unexpected(expected(format_args!("a response within {MAX_REDIRECTS} redirects")).found("one more")))
    }

    /// The error for an unsuccessful response; `missing` describes status 404.
    fn refusal(&self, response: &Response<Body>, missing: &str) -> Error {
        let status = response.status().as_u16();
        let advice = match self.settings.token {
            None => "set HF_TOKEN to a token that may read it",
            Some(_) => "the token in use may not read it",
        };
        let host = host(response.get_uri());
        let problem = match (text(response.headers(), ERROR_CODE), status) {
            // The storage knows nothing about repositories.
            _ if !self.is_own_host(response.get_uri()) => format!("{host} failed (status {status})"),
            (Some("RevisionNotFound"), _) => "no such revision".into(),
            (Some("EntryNotFound"), _) => "no such file".into(),
            (Some("GatedRepo"), _) => {
                format!("gated, and its owner has not granted access: {advice} (status {status})")
            }
            (Some("RepoNotFound"), 401) | (_, 401 | 403) => {
                format!("no such repository, or it is private or gated: {advice} (status {status})")
            }
            (Some("RepoNotFound"), _) => "no such repository, or it is private".into(),
            (_, 404) => missing.into(),
            (_, 429) => format!("{host} received too many requests: try again later (status 429)"),
            (_, 500..) => format!("{host} failed (status {status})"),
            _ => format!("{host} gave an unexpected response (status {status})"),
        };
        Error::new(ErrorKind::Io, problem)
    }
}

/// Accepts no redirect as final.
fn follow_all(_: &Response<Body>, _: &Uri) -> bool {
    false
}

/// The scheme, host and port of `uri`, without the secrets that an address may contain.
fn host(uri: &Uri) -> String {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

/// The beginning of `text`, quoted, on one line.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

fn is_web(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https"))
}

/// The text of a header; `None` if it is missing or not ASCII.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Resolves `location` relative to `base`.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let address = match location {
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => location.to_owned(),
    };
    address.parse().ok().filter(|uri| is_web(uri) && uri.host().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let shown = |address: &str| host(&address.parse().unwrap());
        assert_eq!(shown("https://user:secret@hub:1/a?token=secret"), "https://hub:1");
        assert_eq!(shown("http://hub/a"), "http://hub");
    }

    #[test]
    fn locations_are_resolved_relative_to_the_base() {
        let base: Uri = "https://hub:1/a/b?c".parse().unwrap();
        let resolved = |location| resolve(&base, location).map(|uri| uri.to_string());
        assert_eq!(resolved("/x/y?z").as_deref(), Some("https://hub:1/x/y?z"));
        assert_eq!(resolved("//cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(resolved("http://cdn:2/x").as_deref(), Some("http://cdn:2/x"));
        for refused in ["", "x/y", "file:///etc/passwd", "ftp://x/y", "http://", "ht tp://x"] {
            assert_eq!(resolved(refused), None, "{refused}");
        }
    }
}
