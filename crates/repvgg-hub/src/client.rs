//! Requests to the hub, and what its answers mean.

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

/// How often one request is sent on to another address.
const MAX_REDIRECTS: usize = 10;

/// The longest description of a repository that is read, in bytes.
const MAX_INFO: u64 = 16 << 20;

/// The slowest connection that is put up with, in bytes a second.
const MIN_RATE: u64 = 1 << 10;

/// What a revision of a repository is.
pub(crate) struct Info {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// What a file is, before it is fetched.
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
        let patience = Some(settings.patience);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("repvgg/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_per_read(patience)
            .timeout_per_write(patience)
            .timeout_recv_response(patience)
            .build();
        Ok(Self { settings, endpoint, agent: config.into() })
    }

    /// The commit and the files of `repository`.
    pub(crate) fn info(&self, repository: &Repository) -> Result<Info> {
        let path = repo(repository.id(), repository.revision()).api_url();
        let mut response =
            self.send(Method::GET, &format!("{}/api/{path}", self.settings.endpoint), 0, MAX_INFO, arrived)?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(&response, "no such repository or revision, or it is private"));
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_INFO)
            .read_to_vec()
            .map_err(|error| self.unreachable(&self.endpoint, &error))?;
        let strange = |found| self.strange(expected("the description of a repository").found(found));
        let info: RepoInfo = serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))?;
        if !crate::repository::is_commit(&info.sha) {
            return Err(strange(format!("the commit {}", quoted(&info.sha))));
        }
        Ok(Info { commit: info.sha, files: info.siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// The hash and the size of the file `name` of `commit`, from the hub itself.
    pub(crate) fn describe(&self, id: &str, commit: &str, name: &str) -> Result<Remote> {
        // What the hub sends on elsewhere, it describes itself before.
        let enough = |response: &Response<Body>, next: &Uri| {
            let linked = [LINKED_ETAG, LINKED_SIZE].iter().all(|name| response.headers().contains_key(name));
            linked || !self.is_ours(next)
        };
        let response = self.send(Method::HEAD, &self.file(id, commit, name), 0, 0, enough)?;
        let has_arrived = response.status().is_success();
        if !has_arrived && !response.status().is_redirection() {
            return Err(self.refusal(&response, "no such file"));
        }
        let headers = response.headers();
        let etag = text(headers, LINKED_ETAG).or_else(|| text(headers, ETAG)).unwrap_or("none");
        // The length of an answer that sends us elsewhere is its own.
        let length = text(headers, CONTENT_LENGTH).filter(|_| has_arrived);
        let size = text(headers, LINKED_SIZE).or(length).unwrap_or("none");
        let checksum = Checksum::from_etag(etag)
            .ok_or_else(|| self.strange(expected("an ETag that is a SHA-256 or git's SHA-1").found(quoted(etag))))?;
        let bytes = size.parse();
        let size = bytes.map_err(|_| self.strange(expected("the size of the file").found(quoted(size))))?;
        Ok(Remote { checksum, size })
    }

    /// The file `name` of `commit`, its bytes from `from` to `size`; a server may send the whole instead.
    pub(crate) fn open(&self, id: &str, commit: &str, name: &str, from: u64, size: u64) -> Result<Response<Body>> {
        let response = self.send(Method::GET, &self.file(id, commit, name), from, size - from, arrived)?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            _ => Err(self.refusal(&response, "no such file")),
        }
    }

    /// That nobody can be talked to at `uri`.
    fn unreachable(&self, uri: &Uri, error: &ureq::Error) -> Error {
        let what = format!("{} cannot be reached: {}", host(uri), self.silence(error));
        Error::new(ErrorKind::Io, format!("{what}; HF_HUB_OFFLINE=1 uses what is in the cache"))
    }

    /// Why no answer comes.
    pub(crate) fn silence(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(Timeout::RecvBody) => format!("less than {MIN_RATE} bytes a second arrived"),
            ureq::Error::Timeout(_) => format!("nothing was heard for {} s", self.settings.patience.as_secs_f32()),
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        }
    }

    /// An answer of the hub's that is not what it should be.
    fn strange(&self, problem: Problem) -> Error {
        Error::format(host(&self.endpoint), problem)
    }

    fn file(&self, id: &str, commit: &str, name: &str) -> String {
        let repo = repo(id, commit);
        format!("{}/{}/resolve/{}/{name}", self.settings.endpoint, repo.url(), repo.url_revision())
    }

    /// Whether `uri` is on the hub's own host, the only one that is shown the token.
    fn is_ours(&self, uri: &Uri) -> bool {
        (uri.scheme(), uri.authority()) == (self.endpoint.scheme(), self.endpoint.authority())
    }

    /// Sends a request for the bytes from `from` on, some `due` of them, and follows the answers that send it on elsewhere
    /// until one is `enough`.
    fn send(
        &self,
        method: Method,
        address: &str,
        from: u64,
        due: u64,
        enough: impl Fn(&Response<Body>, &Uri) -> bool,
    ) -> Result<Response<Body>> {
        let no_address = |found: &str| self.strange(expected("an address").found(quoted(found)));
        let mut uri: Uri = address.parse().map_err(|_| no_address(address))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(&method).uri(&uri).header(ACCEPT_ENCODING, "identity");
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_ours(&uri)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|error| self.unreachable(&uri, &error.into()))?;
            let longest = self.settings.patience + Duration::from_secs(due / MIN_RATE);
            let request = self.agent.configure_request(request).timeout_recv_body(Some(longest)).build();
            let response = self.agent.run(request).map_err(|error| self.unreachable(&uri, &error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = text(response.headers(), LOCATION).unwrap_or("none");
            let next = resolve(&uri, location).ok_or_else(|| no_address(location))?;
            if enough(&response, &next) {
                return Ok(response);
            }
            uri = next;
        }
        Err(self.strange(expected(format_args!("an answer within {MAX_REDIRECTS} redirections")).found("one more")))
    }

    /// What an answer other than success means; `missing` says it of 404.
    fn refusal(&self, response: &Response<Body>, missing: &str) -> Error {
        let status = response.status().as_u16();
        let advice = match self.settings.token {
            None => "set HF_TOKEN to a token that may read it",
            Some(_) => "the token in use may not read it",
        };
        let host = host(response.get_uri());
        let what = match (text(response.headers(), ERROR_CODE), status) {
            // The storage knows of no repositories.
            _ if !self.is_ours(response.get_uri()) => format!("{host} failed (status {status})"),
            (Some("RevisionNotFound"), _) => "no such revision".into(),
            (Some("EntryNotFound"), _) => "no such file".into(),
            (Some("GatedRepo"), _) => {
                format!("its owner asks for consent before it is read: {advice} (status {status})")
            }
            (Some("RepoNotFound"), 401) | (_, 401 | 403) => {
                format!("no such repository, or it is private or gated: {advice} (status {status})")
            }
            (Some("RepoNotFound"), _) => "no such repository, or it is private".into(),
            (_, 404) => missing.into(),
            (_, 429) => format!("{host} has had too many requests: wait (status 429)"),
            (_, 500..) => format!("{host} failed (status {status})"),
            _ => format!("{host} gave an answer without meaning (status {status})"),
        };
        Error::new(ErrorKind::Io, what)
    }
}

/// No answer that sends a request on elsewhere is enough.
fn arrived(_: &Response<Body>, _: &Uri) -> bool {
    false
}

/// Where `uri` is, without the secrets that an address may hold.
fn host(uri: &Uri) -> String {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

/// The beginning of `text` in quotation marks, on one line.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

fn is_web(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https"))
}

/// The text of a header; `None` when it is not there or not ASCII.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The address that `location` is, seen from `base`.
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
    fn a_location_is_seen_from_where_it_was_given() {
        let base: Uri = "https://hub:1/a/b?c".parse().unwrap();
        let seen = |location| resolve(&base, location).map(|uri| uri.to_string());
        assert_eq!(seen("/x/y?z").as_deref(), Some("https://hub:1/x/y?z"));
        assert_eq!(seen("//cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(seen("http://cdn:2/x").as_deref(), Some("http://cdn:2/x"));
        for strange in ["", "x/y", "file:///etc/passwd", "ftp://x/y", "http://", "ht tp://x"] {
            assert_eq!(seen(strange), None, "{strange}");
        }
    }
}
