//! `dead-letters`: grants that PostgreSQL refused, listed, shown, tried again or given up.

use crate::cli::DeadLetters;
use crate::error::Error;
use crate::exit::{Exit, Failure};
use crate::ledger::{Ledger, Letter};
use coupon_core::number::Seq;
use std::io::{self, Write};

/// Does what was asked.
pub async fn obey(command: DeadLetters, ledger: &Ledger) -> Result<Exit, Failure> {
    ledger.ping().await.map_err(crate::unreachable)?;
    match command {
        DeadLetters::List { coupon, all, json, .. } => {
            let letters = read(ledger, coupon.as_deref(), None, all).await?;
            say(|out| if json { write_json(out, &letters) } else { write_table(out, &letters) })
        }
        DeadLetters::Show { coupon, seq, json, .. } => {
            let letters = read(ledger, Some(&coupon), Some(Seq(seq)), true).await?;
            let Some(letter) = letters.first() else { return Err(missing(&coupon, seq)) };
            say(|out| if json { write_json(out, &letters) } else { write_letter(out, letter) })
        }
        DeadLetters::Retry { coupon, seq, all, .. } => retry(ledger, &coupon, seq, all).await,
        DeadLetters::Discard { coupon, seq, .. } => {
            let given_up = ledger.discard_letter(&coupon, number(seq)).await.map_err(|error| failed(&error))?;
            if !given_up {
                return Err(missing(&coupon, seq));
            }
            println!("given up: seq {seq} of coupon {coupon}; the row stays in coupon_dead_letter");
            Ok(Exit::Ok)
        }
    }
}

async fn retry(ledger: &Ledger, coupon: &str, seq: Option<u64>, all: bool) -> Result<Exit, Failure> {
    if seq.is_none() && !all {
        return Err(Failure::new(Exit::Usage, "which one? give SEQ, or --all for all of this coupon"));
    }
    let letters = read(ledger, Some(coupon), seq.map(Seq), seq.is_some()).await?;
    if let (Some(seq), true) = (seq, letters.is_empty()) {
        return Err(missing(coupon, seq));
    }
    let mut refused = 0_u64;
    for letter in &letters {
        match ledger.retry_letter(coupon, letter.seq).await {
            Ok(true) => println!("seq {}: a row now", letter.seq),
            Ok(false) => println!("seq {}: somebody else took it meanwhile", letter.seq),
            Err(Error::Ledger(sqlx::Error::Database(error))) => {
                refused += 1;
                println!("seq {}: refused again: {}", letter.seq, error.message());
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    println!("{} tried, {refused} refused", letters.len());
    Ok(if refused == 0 { Exit::Ok } else { Exit::Failed })
}

async fn read(
    ledger: &Ledger,
    coupon: Option<&str>,
    seq: Option<Seq>,
    with_discarded: bool,
) -> Result<Vec<Letter>, Failure> {
    ledger.letters(coupon, seq, with_discarded).await.map_err(|error| failed(&error))
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn missing(coupon: &str, seq: u64) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("coupon {coupon} has no dead letter with seq {seq}; `coupon-reconciler dead-letters list` shows all"),
    )
}

fn failed(error: &Error) -> Failure {
    Failure::new(Exit::Failed, format!("{error}; `coupon-reconciler check` says what is missing"))
}

fn say(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Exit, Failure> {
    match write(&mut io::stdout().lock()) {
        // Whoever reads has read enough, as with `| head`.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("the list cannot be written: {error}")))
        }
        _ => Ok(Exit::Ok),
    }
}

fn write_json(out: &mut dyn Write, letters: &[Letter]) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, letters)?;
    writeln!(out)
}

fn write_table(out: &mut dyn Write, letters: &[Letter]) -> io::Result<()> {
    for letter in letters {
        let given_up = if letter.discarded_at.is_some() { "  given up" } else { "" };
        let Letter { seq, sqlstate, .. } = letter;
        let (coupon, reason) = (letter.coupon_id.escape_debug(), letter.reason.escape_debug());
        writeln!(out, "{coupon}  seq {seq}  {sqlstate}  {reason}{given_up}")?;
    }
    writeln!(out, "{} dead letter(s)", letters.len())
}

/// Users choose their ids, and a trigger may put one into its text: neither is to steer somebody's terminal.
fn write_letter(out: &mut dyn Write, letter: &Letter) -> io::Result<()> {
    writeln!(out, "coupon        {}", letter.coupon_id.escape_debug())?;
    writeln!(out, "seq           {}", letter.seq)?;
    writeln!(out, "user          {}", letter.user_id.escape_debug())?;
    writeln!(out, "requested at  {}", letter.requested_at)?;
    writeln!(out, "granted at    {}", letter.granted_at)?;
    writeln!(out, "epoch         {}", letter.epoch)?;
    writeln!(out, "chain         {}", letter.chain)?;
    writeln!(out, "refused at    {}", letter.created_at)?;
    writeln!(out, "SQLSTATE      {}", letter.sqlstate)?;
    writeln!(out, "reason        {}", letter.reason.escape_debug())?;
    writeln!(out, "given up at   {}", letter.discarded_at.as_deref().unwrap_or("-"))
}
