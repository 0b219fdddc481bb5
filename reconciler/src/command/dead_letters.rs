//! `dead-letters`: grants that PostgreSQL refused, listed, shown, tried again or given up.

use super::print_found;
use crate::cli::LetterAction;
use crate::error::{Error, Exit, Failure};
use crate::ledger::{Ledger, Letter};
use coupon_core::number::Seq;
use std::io::{self, Write};

/// Does what was asked.
pub async fn obey(ledger: &Ledger, action: LetterAction) -> Result<Exit, Failure> {
    ledger.ping().await?;
    match action {
        LetterAction::List { coupon, all, json } => {
            let letters = ledger.letters(coupon.as_deref(), None, all).await?;
            print_found(json, &letters[..], write_table)?;
        }
        LetterAction::Show { coupon, seq, json } => {
            let letters = ledger.letters(Some(&coupon), Some(Seq(seq)), true).await?;
            let letter = letters.first().ok_or_else(|| missing(&coupon, seq))?;
            print_found(json, &letters, |out, _| write_letter(out, letter))?;
        }
        LetterAction::Retry { coupon, seq, .. } => return retry(ledger, &coupon, seq).await,
        LetterAction::Discard { coupon, seq } => {
            if !ledger.discard_letter(&coupon, i64::try_from(seq).unwrap_or(i64::MAX)).await? {
                return Err(missing(&coupon, seq));
            }
            println!("given up: seq {seq} of coupon {coupon}; the row stays in coupon_dead_letter");
        }
    }
    Ok(Exit::Ok)
}

/// One of them, or all that were not given up.
async fn retry(ledger: &Ledger, coupon: &str, seq: Option<u64>) -> Result<Exit, Failure> {
    let letters = ledger.letters(Some(coupon), seq.map(Seq), seq.is_some()).await?;
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
            Err(error) => return Err(error.into()),
        }
    }
    println!("{} tried, {refused} refused", letters.len());
    Ok(if refused == 0 { Exit::Ok } else { Exit::Failed })
}

fn missing(coupon: &str, seq: u64) -> Failure {
    let all = "`coupon-reconciler dead-letters list` shows all";
    Failure::new(Exit::Failed, format!("coupon {coupon} has no dead letter with seq {seq}; {all}"))
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
    for (column, value) in serde_json::to_value(letter)?.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string());
        writeln!(out, "{column:14}{value}")?;
    }
    Ok(())
}
