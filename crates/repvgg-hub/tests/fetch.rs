//! Fetching from a hub on this machine: what is asked, what lies in the cache, what is said when something fails.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use repvgg_hub::{Repository, Settings, Snapshot, Transfer, fetch};
use repvgg_testing::loopback::{Asked, COMMIT, Hub, Reply, Sending, Server, git_sha1, sha256};

const CONFIG: &[u8] = br#"{"architecture": "repvgg_a0", "num_classes": 2, "label_names": ["cat", "dog"]}"#;
const INFO: &str = "GET /api/models/timm/x/revision/main";
const HEAD_CONFIG: &str = "HEAD /timm/x/resolve/0123456789abcdef0123456789abcdef01234567/config.json";
const HEAD_WEIGHTS: &str = "HEAD /timm/x/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors";

/// 300,000 bytes, so that a body takes several reads.
fn weights() -> Vec<u8> {
    (0..300_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn stored(asked: &Asked) -> Reply {
    Reply::ranged(asked, &weights())
}

/// A hub, its storage, and an empty cache.
struct Place {
    folder: tempfile::TempDir,
    hub: Server,
    storage: Server,
}

impl Place {
    /// Without faults.
    fn new() -> Self {
        Self::with(|asked, hub| hub.answer(asked), stored)
    }

    /// A hub that answers as `answer`, given the faultless one, and a storage that answers as `stored`.
    fn with(
        answer: impl Fn(&Asked, &Hub) -> Reply + Send + Sync + 'static,
        stored: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let storage = Server::start(stored);
        let files = |name: &str, bytes: &[u8]| vec![(name.to_owned(), bytes.to_vec())];
        let hub = Hub {
            small: files("config.json", CONFIG),
            large: files("model.safetensors", &weights()),
            storage: storage.address.clone(),
        };
        let hub = Server::start(move |asked| answer(asked, &hub));
        Self { folder: tempfile::tempdir().unwrap(), hub, storage }
    }

    fn settings(&self) -> Settings {
        Settings {
            cache: self.folder.path().to_owned(),
            endpoint: self.hub.address.clone(),
            token: None,
            offline: false,
            patience: Duration::from_secs(10),
        }
    }

    fn fetch(&self) -> repvgg::Result<Snapshot> {
        fetch(&repository(), &self.settings(), &mut |_| {})
    }

    /// The sentence of a failure, with `HUB`, `STORAGE` and `CACHE` for what changes from run to run.
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

    /// Checks that neither the content nor the name of the weights is there.
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
fn a_repository_is_laid_down_as_the_other_clients_lay_it() {
    let place = Place::new();
    let mut heard = Vec::new();
    let snapshot = fetch(&repository(), &place.settings(), &mut |Transfer { file, done, size }| {
        heard.push((file.to_owned(), done, size))
    });
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot.weights, place.inside(&format!("snapshots/{COMMIT}/model.safetensors")));
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(fs::read(&snapshot.weights).unwrap(), weights());
    assert_eq!(fs::read(snapshot.config.as_ref().unwrap()).unwrap(), CONFIG);
    assert_eq!(snapshot.read_config().unwrap().unwrap().labels, ["cat", "dog"]);
    let mut blobs = vec![git_sha1(CONFIG), sha256(&weights())];
    blobs.sort();
    assert_eq!(names(&place.inside("blobs")), blobs);
    assert_eq!(fs::read_to_string(place.inside("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert_eq!(fs::read_link(&snapshot.weights).unwrap(), Path::new("../../blobs").join(sha256(&weights())));

    let get_config = HEAD_CONFIG.replace("HEAD", "GET");
    let get_weights = HEAD_WEIGHTS.replace("HEAD", "GET");
    assert_eq!(place.hub.lines(), [INFO, HEAD_CONFIG, &get_config, HEAD_WEIGHTS, &get_weights]);
    assert_eq!(place.storage.lines(), ["GET /stored/model.safetensors?signature=x"]);
    let of_weights: Vec<_> = heard.iter().filter(|heard| heard.0 == "model.safetensors").collect();
    assert!(of_weights.len() > 2 && of_weights.is_sorted_by_key(|heard| heard.1));
    assert_eq!((of_weights[0].1, of_weights[of_weights.len() - 1].1), (0, 300_000));
    assert!(of_weights.iter().all(|heard| heard.2 == 300_000));
}

#[test]
fn the_second_time_only_the_commit_is_asked_for() {
    let place = Place::new();
    let first = place.fetch().unwrap();
    place.hub.asked();
    place.storage.asked();
    let second = fetch(&repository(), &place.settings(), &mut |_| panic!("nothing to fetch")).unwrap();
    assert_eq!(second, first);
    assert_eq!(place.hub.lines(), [INFO]);
    assert!(place.storage.asked().is_empty());
}

#[test]
fn content_that_another_commit_has_brought_is_not_fetched_again() {
    let place = Place::new();
    let first = place.fetch().unwrap();
    fs::remove_dir_all(place.inside("snapshots")).unwrap();
    place.storage.asked();
    assert_eq!(place.fetch().unwrap(), first);
    assert!(place.storage.asked().is_empty());
}

#[test]
fn a_link_whose_content_is_gone_or_cut_is_mended() {
    let place = Place::new();
    place.fetch().unwrap();
    fs::remove_file(place.blob()).unwrap();
    assert_eq!(fs::read(place.fetch().unwrap().weights).unwrap(), weights());
    fs::remove_dir_all(place.inside("snapshots")).unwrap();
    fs::write(place.blob(), &weights()[..1000]).unwrap();
    assert_eq!(fs::read(place.fetch().unwrap().weights).unwrap(), weights());
}

#[test]
fn two_at_once_fetch_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| place.fetch().unwrap()));
        for one in both {
            assert_eq!(fs::read(one.join().unwrap().weights).unwrap(), weights());
        }
    });
    assert_eq!(place.storage.asked().len(), 1);
}

#[test]
fn offline_the_cache_is_used_and_nobody_is_asked() {
    let place = Place::new();
    let online = place.fetch().unwrap();
    place.hub.asked();
    let offline = Settings { offline: true, ..place.settings() };
    assert_eq!(fetch(&repository(), &offline, &mut |_| {}).unwrap(), online);
    let by_commit = Repository::parse(&format!("hf:timm/x@{COMMIT}")).unwrap();
    assert_eq!(fetch(&by_commit, &offline, &mut |_| {}).unwrap(), online);
    assert!(place.hub.asked().is_empty());
}

#[test]
fn offline_what_is_missing_is_named() {
    let place = Place::new();
    let offline = Settings { offline: true, ..place.settings() };
    let sentence =
        "hf:timm/x: expected CACHE/models--timm--x/refs/main in the cache, since HF_HUB_OFFLINE is set, found none";
    assert_eq!(place.failure_with(&offline), sentence);

    let snapshot = place.fetch().unwrap();
    fs::remove_file(place.blob()).unwrap();
    let sentence = "hf:timm/x: in the cache, since HF_HUB_OFFLINE is set: weights: \
                    expected model.safetensors or one other file of weights, found config.json";
    assert_eq!(place.failure_with(&offline), sentence);

    fs::remove_file(snapshot.config.unwrap()).unwrap();
    assert!(place.failure_with(&offline).contains(&format!("snapshots/{COMMIT}/model.safetensors in the cache")));
    fs::write(place.inside("refs/main"), "../../..").unwrap();
    assert!(
        place.failure_with(&offline).ends_with("refs/main: expected the 40 digits of a commit, found something else")
    );
}

#[test]
fn a_revision_is_asked_for_and_remembered() {
    let place = Place::new();
    for (revision, asked) in [("v1.0", "v1.0"), ("refs/pr/3", "refs%2Fpr%2F3"), (COMMIT, COMMIT)] {
        let repository = Repository::parse(&format!("hf:timm/x@{revision}")).unwrap();
        let snapshot = fetch(&repository, &place.settings(), &mut |_| {}).unwrap();
        assert_eq!(snapshot.commit, COMMIT);
        assert_eq!(place.hub.lines()[0], format!("GET /api/models/timm/x/revision/{asked}"));
    }
    assert_eq!(names(&place.inside("refs")), ["refs", "v1.0"]);
    assert_eq!(fs::read_to_string(place.inside("refs/refs/pr/3")).unwrap(), COMMIT);
}

#[test]
fn the_token_is_shown_to_the_hub_alone() {
    let place = Place::new();
    let settings = Settings { token: Some("hf_secret".into()), ..place.settings() };
    fetch(&repository(), &settings, &mut |_| {}).unwrap();
    let (hub, storage) = (place.hub.asked(), place.storage.asked());
    assert_eq!((hub.len(), storage.len()), (5, 1));
    assert!(hub.iter().all(|asked| asked.header("authorization") == Some("Bearer hf_secret")));
    assert!(storage.iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn a_repository_that_has_moved_is_followed() {
    let place = Place::with(
        |asked, hub| match asked.path.strip_prefix("/old") {
            None => {
                let moved = Reply::new(307, "").with("Location", format!("/old{}", asked.path));
                moved.with("X-Linked-Etag", "\"without a size\"")
            }
            Some(path) => hub.answer(&Asked { path: path.into(), ..asked.clone() }),
        },
        stored,
    );
    let settings = Settings { token: Some("hf_secret".into()), ..place.settings() };
    let snapshot = fetch(&repository(), &settings, &mut |_| {}).unwrap();
    assert_eq!(fs::read(snapshot.weights).unwrap(), weights());
    assert!(place.hub.asked().iter().all(|asked| asked.header("authorization").is_some()));
}

#[test]
fn a_hub_that_stores_large_files_on_its_own_host_describes_them_itself() {
    let place = Place::with(
        |asked, hub| match asked.path.as_str() {
            "/stored" => stored(asked).with("ETag", "\"of the storage\""),
            _ => hub.answer(asked).replacing("Location", "/stored"),
        },
        stored,
    );
    assert_eq!(fs::read(place.fetch().unwrap().weights).unwrap(), weights());
    assert!(place.storage.asked().is_empty());
}

#[test]
fn an_interrupted_file_is_resumed_where_it_ended() {
    let place = Place::with(
        |asked, hub| hub.answer(asked),
        |asked| match asked.header("range") {
            None => stored(asked).sent(Sending::CutAfter(150_000)),
            Some(_) => stored(asked),
        },
    );
    let error = place.failure();
    assert!(error.starts_with("hf:timm/x: model.safetensors: interrupted after 150000 of 300000 bytes ("), "{error}");
    assert!(error.ends_with("), the next run goes on from there"), "{error}");
    assert_eq!(fs::read(place.partial()).unwrap(), &weights()[..150_000]);
    place.check_no_weights();
    place.storage.asked();

    let mut heard = Vec::new();
    let snapshot = fetch(&repository(), &place.settings(), &mut |transfer| heard.push(transfer.done)).unwrap();
    assert_eq!(fs::read(snapshot.weights).unwrap(), weights());
    assert_eq!(heard[0], 150_000);
    let asked = place.storage.asked();
    assert_eq!(asked.iter().map(|asked| asked.header("range")).collect::<Vec<_>>(), [Some("bytes=150000-")]);
    assert!(!place.partial().exists());
}

#[test]
fn a_server_that_ignores_the_range_is_read_from_the_start() {
    let place = Place::with(|asked, hub| hub.answer(asked), |_| Reply::new(200, weights()));
    fs::create_dir_all(place.inside("blobs")).unwrap();
    fs::write(place.partial(), [7; 1000]).unwrap();
    assert_eq!(fs::read(place.fetch().unwrap().weights).unwrap(), weights());
    assert_eq!(place.storage.asked()[0].header("range"), Some("bytes=1000-"));
}

#[test]
fn a_server_that_sends_another_range_is_refused() {
    let place = Place::with(
        |asked, hub| hub.answer(asked),
        |_| Reply::new(206, &weights()[2000..]).with("Content-Range", "bytes 2000-299999/300000"),
    );
    fs::create_dir_all(place.inside("blobs")).unwrap();
    fs::write(place.partial(), &weights()[..1000]).unwrap();
    let sentence = "hf:timm/x: model.safetensors: range: expected the bytes from 1000 on, found those from 2000 on";
    assert_eq!(place.failure(), sentence);
    place.check_no_weights();
}

#[test]
fn a_partial_file_that_is_whole_or_too_long_is_dealt_with() {
    let place = Place::new();
    fs::create_dir_all(place.inside("blobs")).unwrap();
    fs::write(place.partial(), weights()).unwrap();
    assert_eq!(fs::read(place.fetch().unwrap().weights).unwrap(), weights());
    assert!(place.storage.asked().is_empty());

    let place = Place::new();
    fs::create_dir_all(place.inside("blobs")).unwrap();
    fs::write(place.partial(), [weights(), weights()].concat()).unwrap();
    assert_eq!(fs::read(place.fetch().unwrap().weights).unwrap(), weights());
    assert_eq!(place.storage.asked()[0].header("range"), None);
}

#[test]
fn corrupt_content_is_removed_and_both_hashes_are_told() {
    let corrupt = || {
        let mut bytes = weights();
        bytes[200_000] ^= 1;
        bytes
    };
    let place = Place::with(|asked, hub| hub.answer(asked), move |_| Reply::new(200, corrupt()));
    let (expected, found) = (sha256(&weights()), sha256(&corrupt()));
    assert_eq!(place.failure(), format!("hf:timm/x: model.safetensors: expected SHA-256 {expected}, found {found}"));
    place.check_no_weights();
    assert_eq!(names(&place.inside("blobs")), [git_sha1(CONFIG)]);

    let place = Place::with(
        |asked, hub| match hub.answer(asked) {
            reply if asked.method == "GET" && asked.path.ends_with("config.json") => {
                Reply { body: reply.body.to_ascii_uppercase(), ..reply }
            }
            reply => reply,
        },
        stored,
    );
    let (expected, found) = (git_sha1(CONFIG), git_sha1(&CONFIG.to_ascii_uppercase()));
    assert_eq!(place.failure(), format!("hf:timm/x: config.json: expected git blob SHA-1 {expected}, found {found}"));
    assert!(names(&place.inside("blobs")).is_empty());
}

#[test]
fn another_size_than_announced_is_refused() {
    let place = Place::with(|asked, hub| hub.answer(asked), |_| Reply::new(200, &weights()[1..]));
    let sentence = "hf:timm/x: model.safetensors: size: expected 300000 bytes, found an answer of 299999";
    assert_eq!(place.failure(), sentence);
    place.check_no_weights();
}

#[test]
fn a_server_that_sends_without_end_is_cut_off() {
    let endless = |_: &Asked| Reply::new(200, weights()).sent(Sending::Endless);
    let place = Place::with(|asked, hub| hub.answer(asked), endless);
    assert_eq!(place.failure(), "hf:timm/x: model.safetensors: size: expected 300000 bytes, found more");
    assert!(!place.partial().exists());
    place.check_no_weights();

    let place = Place::with(|_, _| Reply::new(200, " ".repeat(1 << 16)).sent(Sending::Endless), stored);
    let error = place.failure();
    assert!(
        error.starts_with("hf:timm/x: HUB cannot be reached: the response body is larger than request limit"),
        "{error}"
    );
}

#[test]
fn a_size_that_no_model_has_is_refused_before_it_is_fetched() {
    for (size, sentence) in [
        ("17179869185", "model.safetensors: size: expected at most 17179869184 bytes, found 17179869185"),
        ("-1", "model.safetensors: HUB: expected the size of the file, found \"-1\""),
        (
            "99999999999999999999",
            "model.safetensors: HUB: expected the size of the file, found \"99999999999999999999\"",
        ),
    ] {
        let place = Place::with(move |asked, hub| hub.answer(asked).replacing("X-Linked-Size", size), stored);
        assert_eq!(place.failure(), format!("hf:timm/x: {sentence}"));
        assert!(place.storage.asked().is_empty());
    }
}

#[test]
fn refusals_of_the_hub_are_told_apart() {
    let missing = "no such repository or revision, or it is private";
    let private = "no such repository, or it is private or gated: set HF_TOKEN to a token that may read it";
    let gated = "its owner asks for consent before it is read: set HF_TOKEN to a token that may read it (status 403)";
    for (status, code, sentence) in [
        (404, "", missing.to_owned()),
        (404, "RepoNotFound", "no such repository, or it is private".into()),
        (404, "RevisionNotFound", "no such revision".into()),
        (401, "RepoNotFound", format!("{private} (status 401)")),
        (401, "", format!("{private} (status 401)")),
        (403, "", format!("{private} (status 403)")),
        (403, "GatedRepo", gated.into()),
        (429, "", "HUB has had too many requests: wait (status 429)".into()),
        (500, "", "HUB failed (status 500)".into()),
        (503, "", "HUB failed (status 503)".into()),
        (418, "", "HUB gave an answer without meaning (status 418)".into()),
    ] {
        let place = Place::with(move |_, _| Reply::new(status, "<html>").with("X-Error-Code", code), stored);
        assert_eq!(place.failure(), format!("hf:timm/x: {sentence}"));
        assert!(names(place.folder.path()).is_empty());
    }
}

#[test]
fn a_token_that_does_not_help_is_said_but_not_shown() {
    let place = Place::with(|_, _| Reply::new(401, ""), stored);
    let error = place.failure_with(&Settings { token: Some("hf_secret".into()), ..place.settings() });
    let sentence =
        "hf:timm/x: no such repository, or it is private or gated: the token in use may not read it (status 401)";
    assert_eq!(error, sentence);
}

#[test]
fn a_failure_of_the_storage_leaves_nothing() {
    let place = Place::with(|asked, hub| hub.answer(asked), |_| Reply::new(500, "sorry"));
    assert_eq!(place.failure(), "hf:timm/x: model.safetensors: STORAGE failed (status 500)");
    place.check_no_weights();
    let place = Place::with(|asked, hub| hub.answer(asked), |_| Reply::new(403, "the signature has expired"));
    assert_eq!(place.failure(), "hf:timm/x: model.safetensors: STORAGE failed (status 403)");
}

#[test]
fn a_silent_server_is_left() {
    let body = weights();
    let silent_hub = Place::with(|_, _| Reply::new(200, "{}").sent(Sending::SilentAfter(1)), stored);
    let silent_storage = Place::with(
        |asked, hub| hub.answer(asked),
        move |_| Reply::new(200, body.clone()).sent(Sending::SilentAfter(1000)),
    );
    let begun = Instant::now();
    for (place, sentence) in [
        (
            &silent_hub,
            "hf:timm/x: HUB cannot be reached: nothing was heard for 0.3 s; HF_HUB_OFFLINE=1 uses what is in the cache",
        ),
        (
            &silent_storage,
            "hf:timm/x: model.safetensors: interrupted after 1000 of 300000 bytes (nothing was heard for 0.3 s), \
             the next run goes on from there",
        ),
    ] {
        assert_eq!(
            place.failure_with(&Settings { patience: Duration::from_millis(300), ..place.settings() }),
            sentence
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    silent_storage.check_no_weights();
}

#[test]
fn no_network_is_said() {
    let place = Place::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings { endpoint: format!("http://{closed}"), ..place.settings() };
    let error = place.failure_with(&settings);
    assert!(error.starts_with(&format!("hf:timm/x: http://{closed} cannot be reached: ")), "{error}");
    for endpoint in ["", "huggingface.co", "ftp://x", "http://"] {
        let error = place.failure_with(&Settings { endpoint: endpoint.into(), ..place.settings() });
        let sentence =
            format!("hf:timm/x: HF_ENDPOINT: expected an address such as https://huggingface.co, found {endpoint:?}");
        assert_eq!(error, sentence);
    }
}

#[test]
fn there_is_tls_to_ask_with() {
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
    let place = Place::new();
    let error = place.failure_with(&Settings { endpoint: format!("https://{address}"), ..place.settings() });
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
        let place = Place::with(move |_, _| Reply::new(200, body), stored);
        assert_eq!(place.failure(), format!("hf:timm/x: {sentence}"));
        assert!(names(place.folder.path()).is_empty());
    }
}

#[test]
fn an_etag_that_is_no_hash_is_refused() {
    let place = Place::with(|asked, hub| hub.answer(asked).replacing("ETag", "\"../../x\""), stored);
    let sentence =
        "hf:timm/x: config.json: HUB: expected an ETag that is a SHA-256 or git's SHA-1, found \"\\\"../../x\\\"\"";
    assert_eq!(place.failure(), sentence);
}

#[test]
fn redirections_end() {
    let place = Place::with(|asked, _| Reply::new(302, "").with("Location", asked.path.clone()), stored);
    assert_eq!(place.failure(), "hf:timm/x: HUB: expected an answer within 10 redirections, found one more");
    assert_eq!(place.hub.asked().len(), 11);
    let place = Place::with(|_, _| Reply::new(302, "").with("Location", "file:///etc/passwd"), stored);
    assert_eq!(place.failure(), "hf:timm/x: HUB: expected an address, found \"file:///etc/passwd\"");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said() {
    let place = Place::new();
    fs::create_dir_all(place.inside("blobs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.partial()).unwrap();
    let error = place.failure();
    assert!(error.starts_with("hf:timm/x: model.safetensors: CACHE/models--timm--x/blobs/"), "{error}");
    assert!(error.contains(".incomplete: No space left on device"), "{error}");
    place.check_no_weights();
}
