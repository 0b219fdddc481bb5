//! Commands as lines of text, so that a test reads as a table.

/// The words of a line as redis-cli takes them: separated by blanks; inside double quotes a blank is a blank, and
/// `\xHH`, `\n`, `\r`, `\t`, `\\`, `\"` are bytes.
///
/// # Panics
/// If a quote is not closed, or an escape is none of these.
#[must_use]
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\n' => {}
            b'"' => words.push(quoted(&mut bytes, line)),
            first => {
                let mut word = vec![first];
                while let Some(byte) = bytes.next_if(|byte| !matches!(byte, b' ' | b'\n')) {
                    word.push(byte);
                }
                words.push(word);
            }
        }
    }
    words
}

fn quoted(bytes: &mut impl Iterator<Item = u8>, line: &str) -> Vec<u8> {
    let mut next = || bytes.next().unwrap_or_else(|| panic!("a quote is open in: {line}"));
    let mut word = Vec::new();
    loop {
        word.push(match next() {
            b'"' => return word,
            b'\\' => match next() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [next(), next()];
                    let digits = str::from_utf8(&digits).expect("hex digits are ASCII");
                    u8::from_str_radix(digits, 16).expect("two hex digits follow \\x")
                }
                byte @ (b'\\' | b'"') => byte,
                other => panic!("unknown escape \\{} in: {line}", other as char),
            },
            byte => byte,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_hold_blanks_and_bytes() {
        assert_eq!(words(r#"SET  a "b c\x00\r\"" "#), [&b"SET"[..], b"a", b"b c\0\r\""]);
        assert_eq!(words(r#"A """#), [&b"A"[..], b""]);
    }
}
