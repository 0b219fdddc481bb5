//! Plays deliberate faults, each beside the test that has to notice it.

use clap::Parser;
use coupon_tests::artifact;
use coupon_tests::deliberate::copy::Copy;
use coupon_tests::deliberate::patch::{FOLDER, Half, Patch, Witness};
use coupon_tests::deliberate::play::{Ended, Programs};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Lines of a test's output, or the compiler's, that are shown of a failure, from the first that says what is wrong.
const SHOWN_LINES: usize = 30;

/// Applies each patch of tests/faults to a copy of the tree, builds it there, and plays the tests that its head names: they have
/// to pass without the patch and to fail with it, for the reason that the head names. Exit code 1 if one does not, or if any patch
/// no longer applies.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Plays only this one, as in no-compare-and-set; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Plays only so many, others each turn
    #[arg(long, value_name = "COUNT", requires = "turn")]
    few: Option<usize>,

    /// Which turn it is, as in the number of commits
    #[arg(long, value_name = "NUMBER")]
    turn: Option<usize>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let all = Patch::all(artifact::workspace());
    let server = server();
    let chosen = match choose(&cli, &all) {
        Ok(chosen) => chosen,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let chosen: Vec<&Patch> = chosen.into_iter().filter(|patch| is_playable(patch, &server)).collect();
    let copy = Copy::of(artifact::workspace(), &artifact::target_directory().join("faults"));
    let mut failures = all.iter().filter(|patch| !applies(&copy, patch)).count();
    println!("{} of {} patches apply, {} are played", all.len() - failures, all.len(), chosen.len());
    for half in Half::ALL {
        let of_half: Vec<&Patch> = chosen.iter().copied().filter(|patch| patch.half == half).collect();
        if !of_half.is_empty() {
            failures += play_half(&copy, half, &of_half);
        }
    }
    copy.restore();
    if failures == 0 {
        println!("every fault was noticed");
        ExitCode::SUCCESS
    } else {
        println!("{failures} FAILURES");
        ExitCode::FAILURE
    }
}

fn choose<'a>(cli: &Cli, all: &'a [Patch]) -> Result<Vec<&'a Patch>, String> {
    if let Some(unknown) = cli.only.iter().find(|name| !all.iter().any(|patch| patch.is_called(name))) {
        let names: Vec<&str> = all.iter().map(|patch| patch.name.as_str()).collect();
        return Err(format!("there is no fault '{unknown}'; there are: {}", names.join(", ")));
    }
    let named: Vec<&Patch> =
        all.iter().filter(|patch| cli.only.is_empty() || cli.only.iter().any(|name| patch.is_called(name))).collect();
    let (Some(few), Some(turn)) = (cli.few, cli.turn) else { return Ok(named) };
    let few = few.min(named.len());
    Ok(named.iter().copied().cycle().skip(turn * few % named.len().max(1)).take(few).collect())
}

/// The server on the PATH, as in `Valkey 8.1.6`.
fn server() -> String {
    let output = Command::new("redis-server").arg("--version").output().expect("redis-server starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = said.split_whitespace().next().unwrap_or_default();
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or_default();
    format!("{name} {version}")
}

/// The folder of the server that a patch is played on, if that is not the one on the PATH.
fn folder_of_server(patch: &Patch) -> Option<PathBuf> {
    Some(artifact::target_directory().join("servers").join(patch.played_on.as_ref()?))
}

/// Whether it can show here; if not, it is said why.
fn is_playable(patch: &Patch, server: &str) -> bool {
    match folder_of_server(patch) {
        Some(folder) if !folder.join("redis-server").is_file() => {
            println!("left out  {}: there is no {}; scripts/servers.sh fetches it", patch.name, folder.display());
            false
        }
        None if patch.is_hidden_on(server) => {
            println!("left out  {}: it cannot show on {server}", patch.name);
            false
        }
        Some(_) | None => true,
    }
}

fn applies(copy: &Copy, patch: &Patch) -> bool {
    let applied = copy.check(patch);
    if let Err(error) = &applied {
        println!("FAILED    {}: it no longer applies; make it anew, see {FOLDER}/README.md\n{error}", patch.name);
    }
    applied.is_ok()
}

/// Counts what failed.
fn play_half(copy: &Copy, half: Half, patches: &[&Patch]) -> usize {
    let folder = half.folder();
    copy.restore();
    println!("building the {folder} without a fault");
    let healthy = match copy.build(half, "none") {
        Ok(healthy) => healthy,
        Err(error) => return failed(folder, "it does not build without a patch", &error),
    };
    let witnesses = || patches.iter().flat_map(|patch| patch.witnesses.iter().map(move |witness| (patch, witness)));
    let names: BTreeSet<&str> = witnesses().map(|(_, witness)| witness.program.as_str()).collect();
    let programs = match Programs::build(artifact::workspace(), names) {
        Ok(programs) => programs,
        Err(error) => return failed(folder, "its tests do not build", &error),
    };
    let mut failures = 0;
    let mut passed = BTreeSet::new();
    for (patch, witness) in witnesses() {
        if passed.insert((&witness.program, &witness.test, &patch.played_on)) {
            let began = Instant::now();
            failures += match programs.play(witness, half, &healthy, folder_of_server(patch).as_deref()) {
                Ended::Passed => {
                    println!("healthy   {} passes ({} s)", witness.test, began.elapsed().as_secs());
                    0
                }
                Ended::Failed(said) => failed(&witness.test, "it fails without a fault", &said),
                Ended::Neither(said) => failed(&witness.test, "without a fault", &said),
            };
        }
    }
    failures + patches.iter().map(|patch| play(copy, &programs, patch)).sum::<usize>()
}

fn play(copy: &Copy, programs: &Programs, patch: &Patch) -> usize {
    copy.restore();
    if copy.apply(patch).is_err() {
        // Counted where all were tried.
        return 0;
    }
    let began = Instant::now();
    let faulty = match copy.build(patch.half, "faulty") {
        Ok(faulty) => faulty,
        Err(error) => return failed(&patch.name, "it does not build", &error),
    };
    let built = began.elapsed().as_secs();
    patch
        .witnesses
        .iter()
        .map(|witness| {
            let began = Instant::now();
            match programs.play(witness, patch.half, &faulty, folder_of_server(patch).as_deref()) {
                Ended::Failed(said) if says(witness, &said) => {
                    let seconds = began.elapsed().as_secs();
                    println!(
                        "noticed   {} by {} (built in {built} s, played in {seconds} s)",
                        patch.name, witness.test
                    );
                    0
                }
                Ended::Failed(said) => {
                    failed(&patch.name, &format!("{} fails for another reason", witness.test), &said)
                }
                Ended::Passed => failed(&patch.name, &format!("{} does not notice it", witness.test), &patch.about),
                Ended::Neither(said) => failed(&patch.name, &witness.test, &said),
            }
        })
        .sum()
}

fn says(witness: &Witness, said: &str) -> bool {
    witness.sayings.iter().any(|saying| said.contains(saying.as_str()))
}

/// Tells of a failure, and counts it.
fn failed(what: &str, why: &str, said: &str) -> usize {
    println!("FAILED    {what}: {why}");
    let is_reason = |line: &&str| line.contains(" panicked at ") || line.starts_with("error");
    let begin = said.lines().position(|line| is_reason(&line)).unwrap_or(0);
    for line in said.lines().skip(begin).take(SHOWN_LINES) {
        println!("    {line}");
    }
    1
}
