//! Whether a service answers, asked as its clients do: over its socket, in its protocol.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::environment::catalog::Check;

/// What is ready answers at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// After its answer it may say goodbye; who leaves before is an error in some logs.
const GOODBYE: Duration = Duration::from_millis(200);
/// No answer is longer.
const MOST: usize = 4096;

/// Whether what listens at `socket` says what it should.
pub(super) fn answers(socket: &Path, check: &Check) -> bool {
    let texts = (Check::bytes(&check.send), Check::bytes(&check.expect));
    let (Some(send), Some(expect)) = texts else { return false };
    converse(socket, &send, &expect).unwrap_or(false)
}

fn converse(socket: &Path, send: &[u8], expect: &[u8]) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(send)?;
    let mut deadline = Instant::now() + PATIENCE;
    let mut answer: Vec<u8> = Vec::new();
    let mut found = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > MOST {
            return Ok(found);
        }
        stream.set_read_timeout(Some(left))?;
        let mut some = [0; 512];
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return Ok(found),
            Ok(n) => answer.extend(&some[..n]),
        }
        if !found && answer.windows(expect.len().max(1)).any(|part| part == expect) {
            found = true;
            deadline = Instant::now() + GOODBYE;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_the_right_answer_counts() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let check = Check { send: r"PING\r\n".into(), expect: "+PONG".into() };
        assert!(!answers(&socket, &check), "nobody listens");
        let listener = UnixListener::bind(&socket).unwrap();
        let served = std::thread::spawn(move || {
            for answer in [&b"-LOADING\r\n"[..], b"+PO", b"NG\r\n"] {
                // The second answer comes in two pieces.
                let mut asked = [0; 6];
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut asked).unwrap();
                assert_eq!(&asked, b"PING\r\n");
                stream.write_all(answer).unwrap();
                if answer == b"+PO" {
                    std::thread::sleep(Duration::from_millis(30));
                    stream.write_all(b"NG\r\n").unwrap();
                    break;
                }
            }
        });
        assert!(!answers(&socket, &check), "it is not ready");
        assert!(answers(&socket, &check));
        served.join().unwrap();
    }
}
