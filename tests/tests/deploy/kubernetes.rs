//! The Kubernetes manifests: as the API reads them, and their pod's own command lines on real servers.

use crate::manifest::{self, container, containers, files, object, pod, words};
use crate::yaml::{list, python, text};
use coupon_tests::artifact;
use coupon_tests::deadline::eventually_true;
use coupon_tests::http;
use coupon_tests::ledger::await_coupon;
use coupon_tests::port;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::process::{Process, Program};
use coupon_tests::resp::{Client, expect};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The oldest that knows sidecars by default, and the newest whose schemas are at hand.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

/// Kinds that come with an operator, of which there are no schemas.
const OTHERS: [&str; 1] = ["PodMonitor"];

const PASSWORD: &str = "CHANGE-ME";

/// What is wrong with some files, as the API's schemas see them; empty if nothing is.
fn refusals(version: &str, files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut args = vec!["-m", "kubernetes_validate", "-k", version, "--strict"];
    args.extend(files.iter().map(String::as_str));
    let output = python(&args);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let bad: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("INFO "))
        .filter(|line| !OTHERS.iter().any(|kind| line.contains(&format!("Couldn't find schema for kind {kind} "))))
        .collect();
    assert!(output.status.success() || !bad.is_empty(), "{said}");
    bad.join("\n")
}

#[test]
fn every_manifest_is_what_the_api_takes() {
    assert!(files().len() >= 4, "{:?}", files());
    for version in VERSIONS {
        assert_eq!(refusals(version, &files()), "", "with Kubernetes {version}");
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("wrong.yaml");
    let whole = fs::read_to_string(files().iter().find(|file| file.ends_with("statefulset.yaml")).expect("the pod"));
    let whole = whole.expect("a manifest");
    for (right, wrong) in [("replicas: 1", "replicas: one"), ("livenessProbe:", "liveProbe:"), ("kind: S", "kind: Z")] {
        assert!(whole.contains(right), "{right}");
        fs::write(&file, whole.replace(right, wrong)).expect("a copy");
        assert_ne!(refusals(VERSIONS[0], std::slice::from_ref(&file)), "", "{wrong} is not noticed");
    }
}

#[test]
fn every_container_is_confined_and_of_this_version() {
    let pod = pod();
    let spec = &pod["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(spec["automountServiceAccountToken"], false);
    for container in containers(&pod) {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{container}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{container}");
        let tag = text(&container["image"]).rsplit(':').next();
        assert_eq!(tag, Some(env!("CARGO_PKG_VERSION")), "{container}");
    }
    // A sidecar ends after Redis only as such.
    assert_eq!(container(&pod, "reconciler")["restartPolicy"], "Always");
}

#[test]
fn what_one_manifest_names_another_has() {
    let pod = pod();
    let labels = pod["metadata"]["labels"].as_object().expect("labels");
    let is_of_pod = |selector: &Value| {
        let selector = selector.as_object().expect("a selector");
        !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    let ports: Vec<&str> = containers(&pod)
        .iter()
        .flat_map(|container| list(&container["ports"]))
        .map(|port| text(&port["name"]))
        .collect();
    for name in ["coupon-redis", "coupon-redis-pods"] {
        let service = object("Service", name);
        assert!(is_of_pod(&service["spec"]["selector"]), "{service}");
        for port in list(&service["spec"]["ports"]) {
            assert!(ports.contains(&text(&port["targetPort"])), "{port}");
        }
    }
    let set = object("StatefulSet", "coupon-redis");
    assert!(is_of_pod(&set["spec"]["selector"]["matchLabels"]));
    object("Service", text(&set["spec"]["serviceName"]));
    let policy = object("NetworkPolicy", "coupon-redis");
    assert!(is_of_pod(&policy["spec"]["podSelector"]["matchLabels"]));
    for port in list(&policy["spec"]["ingress"]).flat_map(|rule| list(&rule["ports"])) {
        assert!(ports.contains(&text(&port["port"])), "{port}");
    }
    let monitor = object("PodMonitor", "coupon-reconciler");
    assert!(is_of_pod(&monitor["spec"]["selector"]["matchLabels"]));
    for endpoint in list(&monitor["spec"]["podMetricsEndpoints"]) {
        assert!(ports.contains(&text(&endpoint["port"])), "{endpoint}");
        assert_eq!(endpoint["relabelings"][0]["replacement"], "coupon-reconciler", "the job of prometheus.yml");
    }
    let volumes: Vec<&str> = list(&pod["spec"]["volumes"])
        .map(|volume| text(&volume["name"]))
        .chain(list(&set["spec"]["volumeClaimTemplates"]).map(|claim| text(&claim["metadata"]["name"])))
        .collect();
    for mount in containers(&pod).iter().flat_map(|container| list(&container["volumeMounts"])) {
        assert!(volumes.contains(&text(&mount["name"])), "{mount}");
    }
    object("Secret", text(&pod["spec"]["volumes"][1]["secret"]["secretName"]));
}

#[test]
fn the_secret_proposes_the_users_of_the_shipped_settings() {
    let secret = object("Secret", "coupon-redis");
    let users: Vec<&str> = text(&secret["stringData"]["users.acl"]).lines().collect();
    let shipped = fs::read_to_string(artifact::workspace().join("redis.conf")).expect("redis.conf");
    let proposed: Vec<&str> =
        shipped.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.starts_with("user ")).collect();
    assert_eq!(users[..2], ["user default off ~* &* +@all", "user coupon-health on nopass resetchannels -@all +ping"]);
    assert_eq!(users[2..], proposed);
}

/// The pod's containers as processes: their own commands, with their files elsewhere.
struct Pod {
    pod: Value,
    redis_port: u16,
    listen_port: u16,
    // Ended before their directory goes.
    redis: Process,
    _reconciler: Process,
    directory: TempDir,
}

impl Pod {
    fn start(postgres: &Postgres) -> Self {
        let directory = tempfile::Builder::new().prefix("coupon-pod-").tempdir().expect("temporary directory");
        let (pod, secret) = (pod(), object("Secret", "coupon-redis"));
        let (redis_port, listen_port) = (port::free(), port::free());
        for (name, value) in secret["stringData"].as_object().expect("secrets") {
            let value = match name.as_str() {
                "database-url" => postgres.url(),
                // The pod's port is another's here.
                "redis-url" => text(value).replace(":6379", &format!(":{redis_port}")),
                _ => text(value).to_owned(),
            };
            fs::write(directory.path().join(name), value).expect("a secret");
        }
        let path = |name: &str| directory.path().join(name).display().to_string();
        let places = [
            ("/etc/redis/redis.conf", artifact::workspace().join("redis.conf").display().to_string()),
            ("/run/secrets/coupon", directory.path().display().to_string()),
            ("/usr/local/lib/redis-coupon/libcoupon.so", artifact::module().display().to_string()),
            ("/data", path("data")),
            ("0.0.0.0:9187", format!("127.0.0.1:{listen_port}")),
        ];
        let here = |word: &str| {
            let moved = places.iter().find_map(|(there, here)| {
                let rest = word.strip_prefix(there).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
                Some(format!("{here}{rest}"))
            });
            moved.unwrap_or_else(|| word.to_owned())
        };
        fs::create_dir(directory.path().join("data")).expect("the volume");

        let container = |name: &str| container(&pod, name);
        let mut command = words(&container("redis")["command"]).iter().map(|word| here(word)).collect::<Vec<_>>();
        let bind = command.iter().position(|word| word == "--bind").expect("the pod listens on its address");
        command[bind + 1] = "127.0.0.1".into();
        command.extend(["--port".into(), redis_port.to_string()]);
        let redis = Program {
            name: "the pod's Redis",
            file: artifact::on_path(&command[0]).expect("redis-server"),
            args: command[1..].iter().map(Into::into).collect(),
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("redis.log"),
            account: None,
        };
        let env = list(&container("reconciler")["env"]);
        let reconciler = Program {
            name: "the pod's reconciler",
            file: artifact::reconciler(),
            args: words(&container("reconciler")["args"]).iter().map(Into::into).collect(),
            env: env.map(|set| (text(&set["name"]).to_owned(), here(text(&set["value"])))).collect(),
            directory: directory.path().to_owned(),
            log: directory.path().join("reconciler.log"),
            account: None,
        };
        // In the order in which a pod starts them.
        let (reconciler, redis) = (reconciler.start(), redis.start());
        Self { redis_port, listen_port, redis, _reconciler: reconciler, pod, directory }
    }

    /// Runs a container's probe by command.
    fn probe(&self, container: &str, probe: &str) -> bool {
        let probe = &manifest::container(&self.pod, container)[probe];
        let command = words(&probe["exec"]["command"]);
        let output = Command::new(&command[0])
            .args(["-p", &self.redis_port.to_string()])
            .args(&command[1..])
            .output()
            .expect("the probe starts");
        output.status.success()
    }

    fn client(&self, user: &str) -> Client {
        let mut client = Client::connect(self.redis_port).expect("Redis answers");
        expect(&mut client, &[(format!("AUTH {user} {PASSWORD}"), "+OK")]);
        client
    }
}

#[test]
fn the_pod_works_as_it_is_written() {
    let postgres = Postgres::start();
    let mut pod = Pod::start(&postgres);
    eventually_true("the pod is ready", || pod.probe("redis", "readinessProbe"));
    assert!(pod.probe("redis", "livenessProbe"));
    eventually_true("the reconciler is ready", || matches!(http::get(pod.listen_port, "/readyz"), Ok((200, _))));
    let live = &container(&pod.pod, "reconciler")["livenessProbe"]["httpGet"];
    assert_eq!(http::get(pod.listen_port, text(&live["path"])).expect("a probe").0, 200);

    let mut nobody = Client::connect(pod.redis_port).expect("Redis answers");
    expect(&mut nobody, &[("COUPON.INFO coupon:{a}", "-NOAUTH"), ("PING", "-NOAUTH")]);
    postgres
        .run("insert into coupon(id, name, quantity, status, mode) values ('a', 'Test', 5, 'AVAILABLE', 'INSTANT')");
    let mut application = pod.client("coupon-app");
    eventually_true("a unit is granted, once the coupon is on offer", || {
        application.run("COUPON.REQUEST coupon:{a} someone").to_string() == "GRANTED"
    });
    await_coupon(&postgres, "a", "granted", "1");
    expect(&mut application, &[("COUPON.OPEN coupon:{b} QUANTITY 1", "-NOPERM"), ("CONFIG GET dir", "-NOPERM")]);
    assert!(pod.directory.path().join("data/appendonlydir").is_dir(), "what has to stay lies in the volume");

    // A probe that nothing fails would not be one.
    pod.redis.kill();
    assert!(!pod.probe("redis", "livenessProbe") && !pod.probe("redis", "readinessProbe"));
}
