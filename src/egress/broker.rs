//! What is put in on the way: the value of a secret, for the placeholder that a program has of it.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_platform_verifier::BuilderVerifierExt;

use super::authority::{Authority, provider};
use super::request::Refusal;
use super::rule::Target;
use crate::redact::Needles;

/// One request that wants a value.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Of HTTP.
    pub method: &'a str,
    /// Without what follows a `?`.
    pub path: &'a str,
}

/// A value, and what it may be used for. It is somebody else's: here it only passes.
pub trait Credential: Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;
    /// Where alone it goes: `host:port`.
    fn host(&self) -> &str;
    /// The field that alone it goes in.
    fn header(&self) -> &str;
    /// What the program has instead.
    fn placeholder(&self) -> &str;
    /// Why it is not for such a request, if it is not.
    fn refuses(&self, wanted: &Wanted<'_>) -> Option<String>;
    /// Records the use, and then gives what the field holds to `put`; else why not.
    fn release(&self, wanted: &Wanted<'_>, put: &mut dyn FnMut(&[u8])) -> Result<(), String>;
}

/// Puts values in, and takes them out of what comes back.
pub struct Broker {
    pub(super) credentials: Vec<Arc<dyn Credential>>,
    pub(super) hands: Hands,
}

/// Whose they are that do it.
pub(super) enum Hands {
    /// This process's.
    Own(Box<Own>),
    /// Another's.
    Other(Arc<dyn Elsewhere>),
}

/// What it takes.
pub(super) struct Own {
    pub(super) needles: Arc<Needles>,
    pub(super) authority: Authority,
    client: Arc<ClientConfig>,
}

/// A process that has the values, where this one is not to have them.
pub trait Elsewhere: Send + Sync {
    /// Serves a connection on which TLS with a host that a value goes to begins; with `target`, where
    /// that was said to a proxy. `read` has come of it already.
    fn take(&self, client: TcpStream, read: Vec<u8>, target: Option<String>) -> io::Result<()>;
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No certificate could be made.
    #[error("cannot make a certificate for the sandbox: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Hosts could not be told from others.
    #[error("cannot check the certificates of hosts: {0}")]
    Verifier(String),
}

impl Broker {
    /// For these credentials, of which `needles` knows the values. Hosts are checked against
    /// `roots`, certificates as PEM, or against the platform's.
    pub fn new(
        credentials: Vec<Arc<dyn Credential>>,
        needles: Arc<Needles>,
        roots: Option<&[u8]>,
    ) -> Result<Broker, BrokerError> {
        let failed = |e: &dyn fmt::Display| BrokerError::Verifier(e.to_string());
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&e))?;
        let builder = match roots {
            None => builder.with_platform_verifier().map_err(|e| failed(&e))?,
            Some(pem) => {
                let mut store = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    store.add(certificate.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
                }
                builder.with_root_certificates(store)
            }
        };
        let mut client = builder.with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let own = Own { needles, authority: Authority::new()?, client: Arc::new(client) };
        Ok(Broker { credentials, hands: Hands::Own(Box::new(own)) })
    }

    /// For credentials whose values are with another process, to which connections are handed.
    pub fn elsewhere(credentials: Vec<Arc<dyn Credential>>, other: Arc<dyn Elsewhere>) -> Broker {
        Broker { credentials, hands: Hands::Other(other) }
    }

    /// The certificate that a program must trust, as PEM; of another process that one knows it.
    pub fn certificate(&self) -> &str {
        match &self.hands {
            Hands::Own(own) => own.authority.certificate(),
            Hands::Other(_) => "",
        }
    }

    /// Whether some value goes to that host.
    pub(super) fn serves(&self, target: &Target) -> bool {
        let target = target.to_string();
        self.credentials.iter().any(|credential| credential.host() == target)
    }
}

impl Own {
    /// TLS with the host itself, whose certificate is checked, on a connection to it.
    pub(super) fn secure(
        &self,
        target: &Target,
        stream: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, Refusal> {
        let failed = |e: &dyn fmt::Display| Refusal::new(502, target, e);
        let name = ServerName::try_from(target.host.clone()).map_err(|e| failed(&e))?;
        let connection =
            ClientConnection::new(self.client.clone(), name).map_err(|e| failed(&e))?;
        let mut stream = StreamOwned::new(connection, stream);
        // Before anything is recorded as released.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|e: io::Error| failed(&e))?;
        }
        Ok(stream)
    }
}
