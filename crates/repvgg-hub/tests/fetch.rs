//! Fetching from a local hub: the requests, the files in the cache, the error messages.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use repvgg_hub::{Repository, Settings, Snapshot, Transfer, fetch};
use repvgg_testing::loopback::{COMMIT, Hub, Reply, Request, Sending, Server, git_sha1, sha256};

const CONFIG: &[u8] = br#"{"architecture": "repvgg_a0", "num_classes": 2, "label_names": ["cat", "dog"]}"#;
const INFO: &str = "GET /api/models/timm/x/revision/main";
const HEAD_CONFIG: &str = "HEAD /timm/x/resolve/0123456789abcdef0123456789abcdef01234567/config.json";
const HEAD_WEIGHTS: &str = "HEAD /timm/x/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors";

/// 300,000 bytes, so that a body takes several reads.
fn weights() -> Vec<u8> {
    (0..300_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn stored(request: &Request) -> Reply {
    Reply::ranged(request, &weights())
}

/// A hub, its storage, and an empty cache.
struct Fixture {
    folder: tempfile::TempDir,
    hub: Server,
    storage: Server,
}

impl Fixture {
    /// A hub and storage without faults.
    fn new() -> Self {
        Self::with(|request, hub| hub.answer(request), stored)
    }

    /// A hub that replies with `answer`, given the faultless one, and a storage that replies with `stored`.
    fn with(
        answer: impl Fn(&Request, &Hub) -> Reply + Send + Sync + 'static,
        stored: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let storage = Server::start(stored);
        let files = |name: &str, bytes: &[u8]| vec![(name.to_owned(), bytes.to_vec())];
        let hub = Hub {
            small: files("config.json", CONFIG),
            large: files("model.safetensors", &weights()),
            storage: storage.address.clone(),
        };
        let hub = Server::start(move |request| answer(request, &hub));
        Self { folder: tempfile::tempdir().unwrap(), hub, storage }
    }

    fn settings(&self) -> Settings {
        Settings {
            cache: self.folder.path().to_owned(),
            endpoint: self.hub.address.clone(),
            token: None,
            offline: false,
            timeout: Duration::from_secs(10),
        }
    }

    fn fetch(&self) -> repvgg::Result<Snapshot> {
        fetch(&repository(), &self.settings(), &mut |_| {})
    }

    /// The message of a failure, with `HUB`, `STORAGE` and `CACHE` in place of addresses and paths.
    fn failure(&self) -> String {
        self.failure_with(&self.settings())
    }

    fn failure_with(&self, settings: &Settings) -> String {
        let error = fetch(&repository(), settings, &mut |_| {}).unwrap_err().to_string();
        error
            .replace(&self.hub.address, "HUB")
            .replace(&self.storage.address, "STORAGE")
            .replace(self.folder.path().to_str().unwrap(), "CACHE")
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.folder.path().join("models--timm--x").join(path)
    }

    fn blob(&self) -> PathBuf {
        self.inside("blobs").join(sha256(&weights()))
    }

    fn partial(&self) -> PathBuf {
        self.inside("blobs").join(format!("{}.incomplete", sha256(&weights())))
    }

    /// Checks that neither the content nor the name of the weights exists.
    fn check_no_weights(&self) {
        assert!(!self.blob().exists());
        assert!(fs::symlink_metadata(self.inside(&format!("snapshots/{COMMIT}/model.safetensors"))).is_err());
        assert!(!self.inside("refs/main").exists());
    }
}

fn repository() -> Repository {
    Repository::parse("hf:timm/x").unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_cache_has_the_layout_of_the_other_clients() {
    let fixture = Fixture::new();
    let mut received = Vec::new();
    let snapshot = fetch(&repository(), &fixture.settings(), &mut |Transfer { file, done, size }| {
        received.push((file.to_owned(), done, size))
    });
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot.weights, fixture.inside(&format!("snapshots/{COMMIT}/model.safetensors")));
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(fs::read(&snapshot.weights).unwrap(), weights());
    assert_eq!(fs::read(snapshot.config.as_ref().unwrap()).unwrap(), CONFIG);
    assert_eq!(snapshot.read_config().unwrap().unwrap().labels, ["cat", "dog"]);
    let mut blobs = vec![git_sha1(CONFIG), sha256(&weights())];
    blobs.sort();
    assert_eq!(names(&fixture.inside("blobs")), blobs);
    assert_eq!(fs::read_to_string(fixture.inside("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert_eq!(fs::read_link(&snapshot.weights).unwrap(), Path::new("../../blobs").join(sha256(&weights())));

    let get_config = HEAD_CONFIG.replace("HEAD", "GET");
    let get_weights = HEAD_WEIGHTS.replace("HEAD", "GET");
    assert_eq!(fixture.hub.lines(), [INFO, HEAD_CONFIG, &get_config, HEAD_WEIGHTS, &get_weights]);
    assert_eq!(fixture.storage.lines(), ["GET /stored/model.safetensors?signature=x"]);
    let of_weights: Vec<_> = received.iter().filter(|received| received.0 == "model.safetensors").collect();
    assert!(of_weights.len() > 2 && of_weights.is_sorted_by_key(|received| received.1));
    assert_eq!((of_weights[0].1, of_weights[of_weights.len() - 1].1), (0, 300_000));
    assert!(of_weights.iter().all(|received| received.2 == 300_000));
}

#[test]
fn a_second_fetch_requests_only_the_commit() {
    let fixture = Fixture::new();
    let first = fixture.fetch().unwrap();
    fixture.hub.requests();
    fixture.storage.requests();
    let second = fetch(&repository(), &fixture.settings(), &mut |_| panic!("nothing to fetch")).unwrap();
    assert_eq!(second, first);
    assert_eq!(fixture.hub.lines(), [INFO]);
    assert!(fixture.storage.requests().is_empty());
}

#[test]
fn content_of_another_commit_is_not_fetched_again() {
    let fixture = Fixture::new();
    let first = fixture.fetch().unwrap();
    fs::remove_dir_all(fixture.inside("snapshots")).unwrap();
    fixture.storage.requests();
    assert_eq!(fixture.fetch().unwrap(), first);
    assert!(fixture.storage.requests().is_empty());
}

#[test]
fn missing_or_truncated_content_is_fetched_again() {
    let fixture = Fixture::new();
    fixture.fetch().unwrap();
    fs::remove_file(fixture.blob()).unwrap();
    assert_eq!(fs::read(fixture.fetch().unwrap().weights).unwrap(), weights());
    fs::remove_dir_all(fixture.inside("snapshots")).unwrap();
    fs::write(fixture.blob(), &weights()[..1000]).unwrap();
    assert_eq!(fs::read(fixture.fetch().unwrap().weights).unwrap(), weights());
}

#[test]
fn concurrent_fetches_download_once() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| fixture.fetch().unwrap()));
        for one in both {
            assert_eq!(fs::read(one.join().unwrap().weights).unwrap(), weights());
        }
    });
    assert_eq!(fixture.storage.requests().len(), 1);
}

#[test]
fn offline_only_the_cache_is_used() {
    let fixture = Fixture::new();
    let online = fixture.fetch().unwrap();
    fixture.hub.requests();
    let offline = Settings { offline: true, ..fixture.settings() };
    assert_eq!(fetch(&repository(), &offline, &mut |_| {}).unwrap(), online);
    let by_commit = Repository::parse(&format!("hf:timm/x@{COMMIT}")).unwrap();
    assert_eq!(fetch(&by_commit, &offline, &mut |_| {}).unwrap(), online);
    assert!(fixture.hub.requests().is_empty());
}

#[test]
fn offline_errors_name_the_missing_files() {
    let fixture = Fixture::new();
    let offline = Settings { offline: true, ..fixture.settings() };
    let sentence =
        "hf:timm/x: expected CACHE/models--timm--x/refs/main in the cache, since HF_HUB_OFFLINE is set, found none";
    assert_eq!(fixture.failure_with(&offline), sentence);

    let snapshot = fixture.fetch().unwrap();
    fs::remove_file(fixture.blob()).unwrap();
    let sentence = "hf:timm/x: in the cache, since HF_HUB_OFFLINE is set: weights: \
                    expected model.safetensors or one other file of weights, found config.json";
    assert_eq!(fixture.failure_with(&offline), sentence);

    fs::remove_file(snapshot.config.unwrap()).unwrap();
    assert!(fixture.failure_with(&offline).contains(&format!("snapshots/{COMMIT}/model.safetensors in the cache")));
    fs::write(fixture.inside("refs/main"), "../../..").unwrap();
    assert!(
        fixture.failure_with(&offline).ends_with("refs/main: expected the 40 digits of a commit, found something else")
    );
}

#[test]
fn a_revision_is_requested_and_recorded() {
    let fixture = Fixture::new();
    for (revision, request) in [("v1.0", "v1.0"), ("refs/pr/3", "refs%2Fpr%2F3"), (COMMIT, COMMIT)] {
        let repository = Repository::parse(&format!("hf:timm/x@{revision}")).unwrap();
        let snapshot = fetch(&repository, &fixture.settings(), &mut |_| {}).unwrap();
        assert_eq!(snapshot.commit, COMMIT);
        assert_eq!(fixture.hub.lines()[0], format!("GET /api/models/timm/x/revision/{request}"));
    }
    assert_eq!(names(&fixture.inside("refs")), ["refs", "v1.0"]);
    assert_eq!(fs::read_to_string(fixture.inside("refs/refs/pr/3")).unwrap(), COMMIT);
}

#[test]
fn only_the_hub_receives_the_token() {
    let fixture = Fixture::new();
    let settings = Settings { token: Some("hf_secret".into()), ..fixture.settings() };
    fetch(&repository(), &settings, &mut |_| {}).unwrap();
    let (hub, storage) = (fixture.hub.requests(), fixture.storage.requests());
    assert_eq!((hub.len(), storage.len()), (5, 1));
    assert!(hub.iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    assert!(storage.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_redirected_repository_is_followed() {
    let fixture = Fixture::with(
        |request, hub| match request.path.strip_prefix("/old") {
            None => {
                let moved = Reply::new(307, "").with("Location", format!("/old{}", request.path));
                moved.with("X-Linked-Etag", "\"without a size\"")
            }
            Some(path) => hub.answer(&Request { path: path.into(), ..request.clone() }),
        },
        stored,
    );
    let settings = Settings { token: Some("hf_secret".into()), ..fixture.settings() };
    let snapshot = fetch(&repository(), &settings, &mut |_| {}).unwrap();
    assert_eq!(fs::read(snapshot.weights).unwrap(), weights());
    assert!(fixture.hub.requests().iter().all(|request| request.header("authorization").is_some()));
}

#[test]
fn a_hub_that_stores_large_files_on_its_own_host_describes_them_itself() {
    let fixture = Fixture::with(
        |request, hub| match request.path.as_str() {
            "/stored" => stored(request).with("ETag", "\"of the storage\""),
            _ => hub.answer(request).replacing("Location", "/stored"),
        },
        stored,
    );
    assert_eq!(fs::read(fixture.fetch().unwrap().weights).unwrap(), weights());
    assert!(fixture.storage.requests().is_empty());
}

#[test]
fn an_interrupted_file_is_resumed_where_it_ended() {
    let fixture = Fixture::with(
        |request, hub| hub.answer(request),
        |request| match request.header("range") {
            None => stored(request).sent(Sending::CutAfter(150_000)),
            Some(_) => stored(request),
        },
    );
    let error = fixture.failure();
    assert!(error.starts_with("hf:timm/x: model.safetensors: interrupted after 150000 of 300000 bytes ("), "{error}");
    assert!(error.ends_with("), the next run resumes there"), "{error}");
    assert_eq!(fs::read(fixture.partial()).unwrap(), &weights()[..150_000]);
    fixture.check_no_weights();
    fixture.storage.requests();

    let mut received = Vec::new();
    let snapshot = fetch(&repository(), &fixture.settings(), &mut |transfer| received.push(transfer.done)).unwrap();
    assert_eq!(fs::read(snapshot.weights).unwrap(), weights());
    assert_eq!(received[0], 150_000);
    let request = fixture.storage.requests();
    assert_eq!(request.iter().map(|request| request.header("range")).collect::<Vec<_>>(), [Some("bytes=150000-")]);
    assert!(!fixture.partial().exists());
}

#[test]
fn a_server_that_ignores_the_range_is_read_from_the_start() {
    let fixture = Fixture::with(|request, hub| hub.answer(request), |_| Reply::new(200, weights()));
    fs::create_dir_all(fixture.inside("blobs")).unwrap();
    fs::write(fixture.partial(), [7; 1000]).unwrap();
    assert_eq!(fs::read(fixture.fetch().unwrap().weights).unwrap(), weights());
    assert_eq!(fixture.storage.requests()[0].header("range"), Some("bytes=1000-"));
}

#[test]
fn a_server_that_sends_another_range_is_refused() {
    let fixture = Fixture::with(
        |request, hub| hub.answer(request),
        |_| Reply::new(206, &weights()[2000..]).with("Content-Range", "bytes 2000-299999/300000"),
    );
    fs::create_dir_all(fixture.inside("blobs")).unwrap();
    fs::write(fixture.partial(), &weights()[..1000]).unwrap();
    let sentence = "hf:timm/x: model.safetensors: range: expected the bytes from 1000 on, found those from 2000 on";
    assert_eq!(fixture.failure(), sentence);
    fixture.check_no_weights();
}

#[test]
fn a_complete_partial_file_is_used_and_a_longer_one_is_replaced() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.inside("blobs")).unwrap();
    fs::write(fixture.partial(), weights()).unwrap();
    assert_eq!(fs::read(fixture.fetch().unwrap().weights).unwrap(), weights());
    assert!(fixture.storage.requests().is_empty());

    let fixture = Fixture::new();
    fs::create_dir_all(fixture.inside("blobs")).unwrap();
    fs::write(fixture.partial(), [weights(), weights()].concat()).unwrap();
    assert_eq!(fs::read(fixture.fetch().unwrap().weights).unwrap(), weights());
    assert_eq!(fixture.storage.requests()[0].header("range"), None);
}

#[test]
fn corrupt_content_is_removed_and_both_hashes_are_reported() {
    let corrupt = || {
        let mut bytes = weights();
        bytes[200_000] ^= 1;
        bytes
    };
    let fixture = Fixture::with(|request, hub| hub.answer(request), move |_| Reply::new(200, corrupt()));
    let (expected, found) = (sha256(&weights()), sha256(&corrupt()));
    assert_eq!(fixture.failure(), format!("hf:timm/x: model.safetensors: expected SHA-256 {expected}, found {found}"));
    fixture.check_no_weights();
    assert_eq!(names(&fixture.inside("blobs")), [git_sha1(CONFIG)]);

    let fixture = Fixture::with(
        |request, hub| match hub.answer(request) {
            reply if request.method == "GET" && request.path.ends_with("config.json") => {
                Reply { body: reply.body.to_ascii_uppercase(), ..reply }
            }
            reply => reply,
        },
        stored,
    );
    let (expected, found) = (git_sha1(CONFIG), git_sha1(&CONFIG.to_ascii_uppercase()));
    assert_eq!(fixture.failure(), format!("hf:timm/x: config.json: expected git blob SHA-1 {expected}, found {found}"));
    assert!(names(&fixture.inside("blobs")).is_empty());
}

#[test]
fn a_size_other_than_announced_is_refused() {
    let fixture = Fixture::with(|request, hub| hub.answer(request), |_| Reply::new(200, &weights()[1..]));
    let sentence = "hf:timm/x: model.safetensors: size: expected 300000 bytes, found a response of 299999";
    assert_eq!(fixture.failure(), sentence);
    fixture.check_no_weights();
}

#[test]
fn a_server_that_sends_without_end_is_cut_off() {
    let endless = |_: &Request| Reply::new(200, weights()).sent(Sending::Endless);
    let fixture = Fixture::with(|request, hub| hub.answer(request), endless);
    assert_eq!(fixture.failure(), "hf:timm/x: model.safetensors: size: expected 300000 bytes, found more");
    assert!(!fixture.partial().exists());
    fixture.check_no_weights();

    let fixture = Fixture::with(|_, _| Reply::new(200, " ".repeat(1 << 16)).sent(Sending::Endless), stored);
    let error = fixture.failure();
    assert!(
        error.starts_with("hf:timm/x: HUB cannot be reached: the response body is larger than request limit"),
        "{error}"
    );
}

#[test]
fn an_implausible_size_is_refused_before_the_download() {
    for (size, sentence) in [
        ("17179869185", "model.safetensors: size: expected at most 17179869184 bytes, found 17179869185"),
        ("-1", "model.safetensors: HUB: expected the size of the file, found \"-1\""),
        (
            "99999999999999999999",
            "model.safetensors: HUB: expected the size of the file, found \"99999999999999999999\"",
        ),
    ] {
        let fixture = Fixture::with(move |request, hub| hub.answer(request).replacing("X-Linked-Size", size), stored);
        assert_eq!(fixture.failure(), format!("hf:timm/x: {sentence}"));
        assert!(fixture.storage.requests().is_empty());
    }
}

#[test]
fn errors_distinguish_the_refusals_of_the_hub() {
    let missing = "no such repository or revision, or it is private";
    let private = "no such repository, or it is private or gated: set HF_TOKEN to a token that may read it";
    let gated = "gated, and its owner has not granted access: set HF_TOKEN to a token that may read it (status 403)";
    for (status, code, sentence) in [
        (404, "", missing.to_owned()),
        (404, "RepoNotFound", "no such repository, or it is private".into()),
        (404, "RevisionNotFound", "no such revision".into()),
        (401, "RepoNotFound", format!("{private} (status 401)")),
        (401, "", format!("{private} (status 401)")),
        (403, "", format!("{private} (status 403)")),
        (403, "GatedRepo", gated.into()),
        (429, "", "HUB received too many requests: try again later (status 429)".into()),
        (500, "", "HUB failed (status 500)".into()),
        (503, "", "HUB failed (status 503)".into()),
        (418, "", "HUB gave an unexpected response (status 418)".into()),
    ] {
        let fixture = Fixture::with(move |_, _| Reply::new(status, "<html>").with("X-Error-Code", code), stored);
        assert_eq!(fixture.failure(), format!("hf:timm/x: {sentence}"));
        assert!(names(fixture.folder.path()).is_empty());
    }
}

#[test]
fn a_rejected_token_is_reported_but_not_shown() {
    let fixture = Fixture::with(|_, _| Reply::new(401, ""), stored);
    let error = fixture.failure_with(&Settings { token: Some("hf_secret".into()), ..fixture.settings() });
    let sentence =
        "hf:timm/x: no such repository, or it is private or gated: the token in use may not read it (status 401)";
    assert_eq!(error, sentence);
}

#[test]
fn a_failure_of_the_storage_leaves_nothing() {
    let fixture = Fixture::with(|request, hub| hub.answer(request), |_| Reply::new(500, "sorry"));
    assert_eq!(fixture.failure(), "hf:timm/x: model.safetensors: STORAGE failed (status 500)");
    fixture.check_no_weights();
    let fixture = Fixture::with(|request, hub| hub.answer(request), |_| Reply::new(403, "the signature has expired"));
    assert_eq!(fixture.failure(), "hf:timm/x: model.safetensors: STORAGE failed (status 403)");
}

#[test]
fn a_silent_server_times_out() {
    let body = weights();
    let silent_hub = Fixture::with(|_, _| Reply::new(200, "{}").sent(Sending::SilentAfter(1)), stored);
    let silent_storage = Fixture::with(
        |request, hub| hub.answer(request),
        move |_| Reply::new(200, body.clone()).sent(Sending::SilentAfter(1000)),
    );
    let begun = Instant::now();
    for (fixture, sentence) in [
        (&silent_hub, "hf:timm/x: HUB cannot be reached: no data for 0.3 s; HF_HUB_OFFLINE=1 uses the cache alone"),
        (
            &silent_storage,
            "hf:timm/x: model.safetensors: interrupted after 1000 of 300000 bytes (no data for 0.3 s), \
             the next run resumes there",
        ),
    ] {
        assert_eq!(
            fixture.failure_with(&Settings { timeout: Duration::from_millis(300), ..fixture.settings() }),
            sentence
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    silent_storage.check_no_weights();
}

#[test]
fn an_unreachable_hub_is_reported() {
    let fixture = Fixture::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings { endpoint: format!("http://{closed}"), ..fixture.settings() };
    let error = fixture.failure_with(&settings);
    assert!(error.starts_with(&format!("hf:timm/x: http://{closed} cannot be reached: ")), "{error}");
    for endpoint in ["", "huggingface.co", "ftp://x", "http://"] {
        let error = fixture.failure_with(&Settings { endpoint: endpoint.into(), ..fixture.settings() });
        let sentence =
            format!("hf:timm/x: HF_ENDPOINT: expected an address such as https://huggingface.co, found {endpoint:?}");
        assert_eq!(error, sentence);
    }
}

#[test]
fn https_starts_a_tls_handshake() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).unwrap();
        stream.write_all(b"HTTP/1.1 400 No TLS here\r\n\r\n").unwrap();
        // The first bytes of a client's handshake, in a record of TLS 1.
        assert_eq!(hello, [0x16, 3, 1]);
    });
    let fixture = Fixture::new();
    let error = fixture.failure_with(&Settings { endpoint: format!("https://{address}"), ..fixture.settings() });
    assert!(error.starts_with(&format!("hf:timm/x: https://{address} cannot be reached: ")), "{error}");
    assert!(error.contains("InvalidContentType"), "{error}");
    server.join().unwrap();
}

#[test]
fn a_hostile_description_is_refused() {
    let hostile = r#"{"sha": "0123456789abcdef0123456789abcdef01234567",
        "siblings": [{"rfilename": "../../x.safetensors"}, {"rfilename": "/etc/x.pth"}, {"rfilename": "a\u001b[2J.bin"}]}"#;
    let listed = r#"weights: expected model.safetensors or one other file of weights, found "../../x.safetensors", "/etc/x.pth", "a\u{1b}[2J.bin""#;
    let description = "HUB: expected the description of a repository, found";
    for (body, sentence) in [
        (hostile, listed.to_owned()),
        (r#"{"sha": "../../..", "siblings": []}"#, format!("{description} the commit \"../../..\"")),
        (r#"{"siblings": []}"#, format!("{description} missing field `sha` at line 1 column 16")),
        ("<html>", format!("{description} expected value at line 1 column 1")),
    ] {
        let fixture = Fixture::with(move |_, _| Reply::new(200, body), stored);
        assert_eq!(fixture.failure(), format!("hf:timm/x: {sentence}"));
        assert!(names(fixture.folder.path()).is_empty());
    }
}

#[test]
fn an_etag_without_a_hash_is_refused() {
    let fixture = Fixture::with(|request, hub| hub.answer(request).replacing("ETag", "\"../../x\""), stored);
    let sentence =
        "hf:timm/x: config.json: HUB: expected an ETag that is a SHA-256 or git's SHA-1, found \"\\\"../../x\\\"\"";
    assert_eq!(fixture.failure(), sentence);
}

#[test]
fn redirects_are_limited() {
    let fixture = Fixture::with(|request, _| Reply::new(302, "").with("Location", request.path.clone()), stored);
    assert_eq!(fixture.failure(), "hf:timm/x: HUB: expected a response within 10 redirects, found one more");
    assert_eq!(fixture.hub.requests().len(), 11);
    let fixture = Fixture::with(|_, _| Reply::new(302, "").with("Location", "file:///etc/passwd"), stored);
    assert_eq!(fixture.failure(), "hf:timm/x: HUB: expected an address, found \"file:///etc/passwd\"");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.inside("blobs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", fixture.partial()).unwrap();
    let error = fixture.failure();
    assert!(error.starts_with("hf:timm/x: model.safetensors: CACHE/models--timm--x/blobs/"), "{error}");
    assert!(error.contains(".incomplete: No space left on device"), "{error}");
    fixture.check_no_weights();
}
