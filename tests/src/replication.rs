//! What a replica sees: the primary's command stream, command by command.

use crate::redis_server::Redis;
use crate::resp::{Client, Value, show};

/// Written by the test to know that everything before it has arrived.
const MARKER: &str = "replication-stream-marker";

/// A link on which the primary sends every write.
pub struct ReplicationStream {
    link: Client,
    primary: Client,
}

impl ReplicationStream {
    /// Attaches to a primary as a replica does. What was written before is in the snapshot, which is passed over.
    ///
    /// # Panics
    /// If the primary does not agree to a full synchronisation.
    #[must_use]
    pub fn attach(redis: &Redis) -> Self {
        let mut link = redis.client();
        // Without `capa eof` the snapshot comes with its length in front.
        let reply = link.run("PSYNC ? -1").to_string();
        assert!(reply.starts_with("+FULLRESYNC "), "{reply}");
        // The primary sends empty lines while it writes the snapshot.
        let mut header = String::new();
        while header.is_empty() {
            header = link.read_line().expect("a snapshot");
        }
        let len: usize = header.strip_prefix('$').and_then(|len| len.parse().ok()).expect("a snapshot with its length");
        link.read_bytes(len).expect("the whole snapshot");
        Self { link, primary: redis.client() }
    }

    /// Every command since the last call, or since it was attached. The link's own talk (PING, REPLCONF, SELECT) is
    /// left out.
    ///
    /// # Panics
    /// If the link breaks.
    pub fn commands(&mut self) -> Vec<Vec<Vec<u8>>> {
        let written = self.primary.call(&["SET", MARKER, ""]);
        assert_eq!(written, Value::Simple("OK".into()));
        let mut commands = Vec::new();
        loop {
            let command = self.link.read().expect("the command stream");
            let words: Vec<Vec<u8>> = command.array().iter().map(|word| word.bytes().to_owned()).collect();
            if words.get(1).is_some_and(|key| key == MARKER.as_bytes()) {
                return commands;
            }
            if !["PING", "REPLCONF", "SELECT"].iter().any(|talk| words[0].eq_ignore_ascii_case(talk.as_bytes())) {
                commands.push(words);
            }
        }
    }

    /// The same, one line of text a command.
    pub fn lines(&mut self) -> Vec<String> {
        let line = |words: &Vec<Vec<u8>>| words.iter().map(|word| show(word)).collect::<Vec<_>>().join(" ");
        self.commands().iter().map(line).collect()
    }
}
