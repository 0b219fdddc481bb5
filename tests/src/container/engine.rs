//! A program in a container, from the image that scripts/images.sh has built for it.
//!
//! It shares the test's network, and its temporary files under the same paths, so that ports, settings and files mean the same
//! on both sides; what differs is all else: the image's own program, libraries, user and file system.

use crate::artifact;
use crate::container::is_backend;
use crate::deadline::eventually_true;
use crate::process::{Life, Program, is_root, open_log};
use futures_util::TryStreamExt;
use std::env;
use std::future::Future;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::LazyLock;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::query_parameters::{KillContainerOptionsBuilder, LogsOptionsBuilder};
use testcontainers::core::Mount;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, Healthcheck, ImageExt};
use tokio::runtime::Runtime;

/// The prefix of the names of images for tests.
pub const PREFIX: &str = "redis-coupon-test";
/// Their tag.
pub const TAG: &str = "latest";

/// Talks to the engine. The tests themselves wait for each answer.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// Starts a program in a container, if it is to run in one.
///
/// # Panics
/// If the engine does not start it.
#[must_use]
pub fn start(program: &Program) -> Option<Box<dyn Life>> {
    if !is_backend() {
        return None;
    }
    let source = Source::of(program)?;
    Some(Box::new(Container::start(program, source)))
}

/// What a program's container is made from.
#[derive(Debug, Clone, Copy)]
struct Source {
    image: &'static str,
    /// The image's user, by number; none where the program brings its own.
    user: Option<&'static str>,
}

impl Source {
    /// The image of a program; none for those that are no part of what is shipped or of its servers.
    fn of(program: &Program) -> Option<Self> {
        match program.name {
            "redis-server" => Some(Self { image: "redis", user: Some("999:999") }),
            "coupon-reconciler" => Some(Self { image: "reconciler", user: Some("65532:65532") }),
            "postgres" => Some(Self { image: "official-postgres", user: None }),
            _ => None,
        }
    }
}

/// A container.
struct Container {
    id: String,
    /// Where what it has written goes.
    log: PathBuf,
    /// Until it has ended and is removed.
    running: Option<ContainerAsync<GenericImage>>,
    ended: Option<ExitStatus>,
}

impl Container {
    fn start(program: &Program, source: Source) -> Self {
        let name = program.name;
        let path = |path: &Path| path.to_str().expect("paths of tests are UTF-8").to_owned();
        let directory = path(&program.directory);
        let mut image = GenericImage::new(format!("{PREFIX}/{}", source.image), TAG.into());
        // The program's directory is there, and what else it may be shown.
        let shared = path(&env::temp_dir());
        assert!(program.directory.starts_with(&shared), "{directory} is not seen in containers");
        let mut mounts = vec![Mount::bind_mount(shared.clone(), shared)];
        if name == "coupon-reconciler" {
            // The build with pause points is in no image.
            if program.file != artifact::reconciler() {
                let file = path(&program.file);
                image = image.with_entrypoint(&file);
                mounts.push(Mount::bind_mount(file.clone(), file));
            }
        } else {
            // The harness says all: what the image's entrypoint would add is tested in tests/containers.
            image = image.with_entrypoint(name);
        }
        let args = program.args.iter().map(|arg| arg.to_str().expect("arguments of tests are UTF-8").to_owned());
        let mut request = image
            .with_cmd(args)
            .with_network("host")
            .with_working_dir(directory.clone())
            .with_health_check(Healthcheck::none());
        for (variable, value) in &program.env {
            request = request.with_env_var(variable, value);
        }
        for mount in mounts {
            request = request.with_mount(mount);
        }
        if let Some(user) = own_user(program, source) {
            request = request.with_user(user);
        }
        let running = wait(request.start());
        let running = running.unwrap_or_else(|error| panic!("{name} does not start in a container: {error}"));
        Self { id: running.id().to_owned(), log: program.log.clone(), running: Some(running), ended: None }
    }

    fn try_signal(&self, signal: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::new().signal(&format!("SIG{signal}")).build();
        ask(|docker| async move { docker.kill_container(&self.id, Some(options)).await })
    }

    /// Takes what it has written into its log, and removes it.
    fn settle(&mut self) {
        let written = self.log();
        if let Some(running) = self.running.take() {
            open_log(&self.log).write_all(&written).expect("log file");
            let removed = wait(running.rm());
            removed.unwrap_or_else(|error| panic!("the container {} cannot be removed: {error}", self.id));
        }
    }
}

impl Life for Container {
    fn ended(&mut self) -> Option<ExitStatus> {
        if let Some(running) = &self.running {
            let code = wait(running.exit_code()).expect("the engine tells a container's state");
            self.ended = code.map(|code| ExitStatus::from_raw(i32::try_from(code).expect("an exit code") << 8));
            if self.ended.is_some() {
                self.settle();
            }
        }
        self.ended
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        self.try_signal(signal).map_err(|error| format!("docker kill -s {signal} {}: {error}", self.id))
    }

    fn kill(&mut self) {
        if self.running.is_some() {
            // It may have ended by itself already.
            let _ = self.try_signal("KILL");
            eventually_true("a killed container has ended", || self.ended().is_some());
        }
    }

    fn log(&self) -> Vec<u8> {
        if self.running.is_some() { written(&self.id) } else { Vec::new() }
    }
}

/// Waits for what an engine is asked.
pub fn wait<F: Future>(answer: F) -> F::Output {
    RUNTIME.block_on(answer)
}

/// Asks the engine itself.
///
/// # Panics
/// If there is none.
pub fn ask<F, T>(question: impl FnOnce(Docker) -> F) -> T
where
    F: Future<Output = T>,
{
    wait(async { question(docker_client_instance().await.expect("a Docker engine")).await })
}

/// What a container has written to stdout and stderr.
///
/// # Panics
/// If the engine does not say.
#[must_use]
pub fn written(id: &str) -> Vec<u8> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("all").build();
    let lines = ask(|docker| async move {
        docker.logs(id, Some(options)).map_ok(|line| line.into_bytes()).try_collect::<Vec<_>>().await
    });
    lines.expect("the engine tells what a container has written").concat()
}

/// The user that a container has to run as, if it is not the image's own: to root all files belong, so the program's directory
/// is given to the image's user; anybody else can give nothing away, and is the container's user.
fn own_user(program: &Program, source: Source) -> Option<String> {
    if let Some(account) = program.account {
        return Some(format!("{}:{}", id(&["-u", account]), id(&["-g", account])));
    }
    match source.user {
        Some(user) if is_root() => {
            let given = Command::new("chown").arg("-R").arg(user).arg(&program.directory).status();
            assert!(given.is_ok_and(|status| status.success()), "chown -R {user} {}", program.directory.display());
            None
        }
        _ => Some(format!("{}:{}", id(&["-u"]), id(&["-g"]))),
    }
}

fn id(args: &[&str]) -> String {
    let output = Command::new("id").args(args).output().expect("id(1)");
    String::from_utf8(output.stdout).expect("a number").trim().to_owned()
}
