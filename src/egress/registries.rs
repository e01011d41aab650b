//! The registries, as hosts that everybody may reach.

use super::rule::Rule;
use crate::config::Addresses;

/// Hosts of registries beside the addresses of the configuration: where those have their files, and
/// what managers of the catalogue's tools ask that have no address there.
const BESIDE: [&str; 9] = [
    "files.pythonhosted.org",
    "proxy.golang.org",
    "sum.golang.org",
    "registry.yarnpkg.com",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "repo.packagist.org",
    "rubygems.org",
    "index.rubygems.org",
];

/// All of them. They are meant wherever they lead: a mirror may be of this machine's network.
pub fn registries(addresses: &Addresses) -> Vec<Rule> {
    let Addresses { npm, pypi, debian, crates_index, crates_files, nodejs, go, rust, .. } =
        addresses;
    let own = [npm, pypi, debian, crates_index, crates_files, nodejs, go, rust];
    let beside = BESIDE.iter().filter_map(|host| host.parse().ok());
    own.into_iter().filter_map(|address| Rule::of_address(address)).chain(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_hosts() {
        let addresses =
            Addresses { npm: "http://u:p@localhost:4873/npm/".into(), ..Addresses::default() };
        let all = registries(&addresses);
        for host in ["localhost:4873", "index.crates.io", "pypi.org", "files.pythonhosted.org"] {
            assert!(all.contains(&host.parse().expect("a rule")), "{host}");
        }
        assert!(!all.contains(&"registry.npmjs.org".parse().expect("a rule")));
    }
}
