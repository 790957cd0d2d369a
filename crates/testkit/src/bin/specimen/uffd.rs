//! `uffd`: has a userfaultfd of its own, registered on a region. That region's faults are its own business, so a
//! sleep must leave the region alone or the sandbox warm.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::thread;

use crate::content::PAGE_BYTES;
use crate::control::{Control, unknown};
use crate::raw::{call, check_int};
use crate::region::Region;

/// Pages that its own handler fills with [`FILLER`] at the first touch.
const PAGES: usize = 64;
const FILLER: u8 = b'u';

const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
const UFFDIO_COPY: libc::Ioctl = 0xc028_aa03_u32 as libc::Ioctl;
const REGISTER_MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;

/// Registers and serves. `use` touches one page more and says whether it came filled.
pub(crate) fn run(mut control: Control) -> io::Result<()> {
    let region = Region::private("served", PAGES * PAGE_BYTES)?;
    let fd = match registered(&region) {
        Ok(fd) => fd,
        Err(why) => return control.unavailable(&why),
    };
    thread::Builder::new().name("faults".to_owned()).spawn(move || serve(fd))?;
    let mut touched = 0;
    control.serve("uffd", |verb, _| match verb {
        "use" => {
            let byte = region.bytes()[touched % PAGES * PAGE_BYTES];
            touched += 1;
            Ok(format!("page={touched} filled={}", byte == FILLER))
        }
        verb => Err(unknown(verb)),
    })
}

fn registered(region: &Region) -> io::Result<File> {
    // SAFETY: takes flags, returns a descriptor.
    let fd = unsafe { call(libc::SYS_userfaultfd, [libc::O_CLOEXEC as usize, 0, 0, 0, 0, 0]) }?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { File::from_raw_fd(fd as i32) };
    ioctl(&fd, UFFDIO_API, &mut [UFFD_API, 0, 0])?;
    let (start, len) = (region.base() as u64, region.len_bytes() as u64);
    ioctl(&fd, UFFDIO_REGISTER, &mut [start, len, REGISTER_MODE_MISSING, 0])?;
    Ok(fd)
}

fn serve(mut fd: File) -> io::Result<()> {
    let page = [FILLER; PAGE_BYTES];
    let mut message = [0u64; 4];
    loop {
        let mut raw = [0u8; 32];
        fd.read_exact(&mut raw)?;
        for (word, bytes) in message.iter_mut().zip(raw.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().map_err(io::Error::other)?);
        }
        if raw[0] == EVENT_PAGEFAULT {
            let place = message[2] & !(PAGE_BYTES as u64 - 1);
            ioctl(&fd, UFFDIO_COPY, &mut [place, page.as_ptr() as u64, PAGE_BYTES as u64, 0, 0])?;
        }
    }
}

fn ioctl<const WORDS: usize>(fd: &File, request: libc::Ioctl, words: &mut [u64; WORDS]) -> io::Result<()> {
    // SAFETY: `words` has the length that the request number states; what it names is ours.
    check_int(unsafe { libc::ioctl(fd.as_raw_fd(), request, words.as_mut_ptr()) })?;
    Ok(())
}
