//! The node's secret, and what is derived from it: the same for all sandboxes of one content, different between
//! functions, and of no use to whoever learns one of them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use protocol::FunctionName;

/// 32 random bytes that never leave the data directory.
#[derive(Clone)]
pub(crate) struct NodeSecret([u8; 32]);

impl NodeSecret {
    /// Reads the secret of this data directory; makes one on the first start.
    pub(crate) fn open(data_dir: &Path) -> std::io::Result<NodeSecret> {
        let path = data_dir.join("secret");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let wrong =
                    |_| std::io::Error::other("it is not 32 bytes long: remove it, and a new one is made");
                bytes.try_into().map(NodeSecret).map_err(wrong)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(data_dir, &path),
            Err(error) => Err(error),
        }
    }

    /// Where the memory of a function with this content lies.
    pub(crate) fn layout(&self, name: &FunctionName, digest: &str) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.derive("layout", name, digest);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Where the memory of a program lies that is no function.
    pub(crate) fn program_layout(&self, program: &str) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] =
            *blake3::keyed_hash(&self.0, format!("program\0{program}").as_bytes()).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Its `PYTHONHASHSEED`. Never 0: that would turn the randomisation off.
    pub(crate) fn hash_seed(&self, name: &FunctionName, digest: &str) -> u32 {
        let [a, b, c, d, ..] = self.derive("hash seed", name, digest);
        u32::from_le_bytes([a, b, c, d]).max(1)
    }

    fn derive(&self, purpose: &str, name: &FunctionName, digest: &str) -> [u8; 32] {
        let text = format!("{purpose}\0{name}\0{digest}"); // None of the three can hold a zero byte.
        *blake3::keyed_hash(&self.0, text.as_bytes()).as_bytes()
    }
}

/// Where the memory of a program that is no function lies, when its layout is pinned: the same at every run with
/// this data directory, different between programs, and a secret.
pub fn program_layout(data_dir: &Path, program: &str) -> std::io::Result<u64> {
    Ok(NodeSecret::open(data_dir)?.program_layout(program))
}

/// Written aside and renamed, so that no crash leaves half a secret.
fn create(data_dir: &Path, path: &Path) -> std::io::Result<NodeSecret> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| std::io::Error::other(error.to_string()))?;
    let aside = data_dir.join("secret.new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    Ok(NodeSecret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_derived_is_steady_for_a_digest_and_differs_between_functions_and_nodes() {
        let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (f, g): (FunctionName, FunctionName) = ("f".parse().unwrap(), "g".parse().unwrap());
        let secret = NodeSecret::open(dir.path()).unwrap();
        let again = NodeSecret::open(dir.path()).unwrap();
        let other = NodeSecret::open(other_dir.path()).unwrap();
        assert_eq!(secret.layout(&f, "1"), again.layout(&f, "1"));
        assert_eq!(secret.hash_seed(&f, "1"), again.hash_seed(&f, "1"));
        assert_ne!(secret.layout(&f, "1"), secret.layout(&g, "1"));
        assert_ne!(secret.layout(&f, "1"), secret.layout(&f, "2"));
        assert_ne!(secret.layout(&f, "1"), other.layout(&f, "1"));
    }

    #[test]
    fn only_the_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        NodeSecret::open(dir.path()).unwrap();
        let mode = dir.path().join("secret").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "short").unwrap();
        assert!(NodeSecret::open(dir.path()).is_err());
    }
}
