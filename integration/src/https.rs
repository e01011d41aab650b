//! A server that lets in who has the key.

#[path = "../../tests/support/https.rs"]
mod server;

pub use server::Https;

/// Starts one that answers 200 to who sends `Authorization: Bearer <key>`, and 401 to others; the
/// body is the head of the request, byte for byte; of `/bytes/N` so many zeros.
///
/// # Panics
/// Where there is no port.
pub fn start(key: &str) -> Https {
    let expected = format!("authorization: bearer {key}");
    Https::serve(move |head| {
        let allowed = head.lines().any(|line| line.eq_ignore_ascii_case(&expected));
        let status = if allowed { "200 OK" } else { "401 Unauthorized" };
        let asked = head.split(' ').nth(1).and_then(|path| path.strip_prefix("/bytes/"));
        let body = match asked.and_then(|number| number.parse().ok()) {
            Some(bytes) => vec![0; bytes],
            None => head.as_bytes().to_vec(),
        };
        let begin = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        [begin.as_bytes(), &body].concat()
    })
}
