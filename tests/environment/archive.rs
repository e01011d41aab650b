//! Makes what registries publish: a signed Debian archive, packages.

use std::io::Write as _;

use liblzma::write::XzEncoder;
use pgp::composed::{CleartextSignedMessage, Deserializable, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails, Password, Timestamp};
use sha2::Digest as _;

use super::Files;

/// A suite with one component.
pub struct Archive {
    suite: String,
    packages: String,
    files: Vec<(String, Vec<u8>)>,
}

fn hex(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Archive {
    pub fn new(suite: &str) -> Archive {
        Archive { suite: suite.into(), packages: String::new(), files: Vec::new() }
    }

    pub fn add(&mut self, name: &str, version: &str, depends: &str, deb: &[u8]) {
        let file = format!("pool/{name}.deb");
        self.packages
            .push_str(&format!("Package: {name}\nVersion: {version}\nArchitecture: test\n"));
        if !depends.is_empty() {
            self.packages.push_str(&format!("Depends: {depends}\n"));
        }
        let (size, hash) = (deb.len(), hex(deb));
        self.packages.push_str(&format!("Filename: {file}\nSize: {size}\nSHA256: {hash}\n\n"));
        self.files.push((file, deb.to_vec()));
    }

    /// Puts everything below `/debian`, signed with one of the keys beside this file.
    pub fn publish(&self, files: &Files, key: &str) {
        let mut packer = XzEncoder::new(Vec::new(), 1);
        packer.write_all(self.packages.as_bytes()).expect("memory can be written");
        let packed = packer.finish().expect("memory can be written");
        let hash = hex(&packed);
        let text = format!(
            "Suite: {0}\nCodename: {0}\nDate: Fri, 01 Aug 2025 10:00:00 UTC\nAcquire-By-Hash: yes\n\
             SHA256:\n {hash} {1} main/binary-test/Packages.xz\n",
            self.suite,
            packed.len(),
        );
        let mut files = files.lock().expect("no handler panics");
        let dist = format!("/debian/dists/{}", self.suite);
        files.insert(format!("{dist}/InRelease"), sign(&text, key).into_bytes());
        files.insert(format!("{dist}/main/binary-test/by-hash/SHA256/{hash}"), packed);
        for (path, file) in &self.files {
            files.insert(format!("/debian/{path}"), file.clone());
        }
    }
}

fn sign(text: &str, key: &str) -> String {
    let armoured = match key {
        "archive" => include_str!("archive.sec.asc"),
        _ => include_str!("stranger.sec.asc"),
    };
    let (key, _) = SignedSecretKey::from_string(armoured).expect("the fixture is a key");
    let mut config =
        SignatureConfig::v4(SignatureType::Text, key.algorithm(), HashAlgorithm::Sha256);
    let when = Timestamp::from_secs(1_785_000_000);
    let subpacket = |data| Subpacket::regular(data).expect("it has a form");
    config.hashed_subpackets = vec![
        subpacket(SubpacketData::SignatureCreationTime(when)),
        subpacket(SubpacketData::IssuerFingerprint(key.fingerprint())),
    ];
    let message = CleartextSignedMessage::new(text, config, &key.primary_key, &Password::empty())
        .expect("the key can sign");
    message.to_armored_string(Default::default()).expect("memory can be written")
}

/// A `.deb` with these members.
pub fn deb(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut deb = ar::Builder::new(Vec::new());
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", tar_gz(&[])),
        ("data.tar.gz", tar_gz(members)),
    ] {
        let header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        deb.append(&header, &*content).expect("memory can be written");
    }
    deb.into_inner().expect("memory can be written")
}

/// A package of npm's with these members.
pub fn npm_package(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let members: Vec<(String, u32, &[u8])> = members
        .iter()
        .map(|(name, mode, bytes)| (format!("package/{name}"), *mode, *bytes))
        .collect();
    let members: Vec<(&str, u32, &[u8])> =
        members.iter().map(|(name, mode, bytes)| (name.as_str(), *mode, *bytes)).collect();
    tar_gz(&members)
}

pub fn tar_gz(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(packer);
    for (name, mode, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).expect("memory can be written");
    }
    let packer = tar.into_inner().expect("memory can be written");
    packer.finish().expect("memory can be written")
}

/// What npm says a package hashes to.
pub fn sri(bytes: &[u8]) -> String {
    let digest = sha2::Sha512::digest(bytes);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("sha512-");
    for chunk in digest.chunks(3) {
        let bits = chunk.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            text.push(char::from(alphabet[(bits >> (18 - 6 * n)) as usize & 63]));
        }
    }
    text + "="
}
