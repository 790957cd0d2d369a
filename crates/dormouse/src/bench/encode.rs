//! `dormouse bench encode`: what pages of real processes cost as patches against another process, in each of the
//! ways, and how fast each way is. The ways are in the files beside; which of them is shipped, and why, is in
//! `docs/decisions/0007-patches.md`.

mod copies;
mod dictionary;
mod encoder;
mod lz4_after;
mod measure;
mod memory;
mod packer;
mod pairing;
mod stored;
mod words;
mod xor;

use indicatif::ProgressBar;
use report::encode::{EncodeBench, EncodeCase, EncodeSetting};

use self::encoder::{Encoder, Lz4, Nothing, Patch, Scope, Zstd};
use self::measure::Measuring;
use self::memory::Image;
use self::pairing::Pairing;
use super::error::BenchError;
use super::files::Files;
use super::workshop::{Kind, Placing, Workshop};
use super::{environment, progress, start};
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

const ROUNDS: u64 = 2;
/// Pairs of processes of each function: with a random layout, what they have in common is a matter of luck.
const PAIRS: u64 = 3;
/// Sandboxes that are taken to share a base, where its price is counted.
const SHARERS: u64 = 16;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse bench encode --quick
  dormouse bench encode --json encode.json --svg encode.svg
  dormouse bench encode --workers sklearn --layout random

Needs Python, and Node and Java for one worker each; workers that cannot run are left out unless they are named. \
DORMOUSE_PYTHON names another interpreter.")]
pub(crate) struct Args {
    /// One round, two workers, no other functions: less than a minute
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    files: Files,
    /// How often everything is encoded and decoded; the quickest counts [default: 2, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: Option<u64>,
    /// Pairs of processes of the same function; the one in the middle is shown [default: 3, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100))]
    pairs: Option<u64>,
    /// Where memory lies [default: both]
    #[arg(long, value_enum)]
    layout: Option<Placing>,
    /// What to run, separated by commas [default: all, quick: hello,pandas]
    #[arg(long, value_enum, value_delimiter = ',')]
    workers: Vec<Kind>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (_runtime, stop) = start()?;
    let bench = measure(args, &stop)?;
    args.files.write(&bench, &bench.table(output::width()), || report::encode_chart::svg(&bench))
}

fn measure(args: &Args, stop: &Stop) -> Result<EncodeBench, BenchError> {
    let (rounds, pairs) = if args.quick { (1, 1) } else { (ROUNDS, PAIRS) };
    let (rounds, pairs) = (args.rounds.unwrap_or(rounds), args.pairs.unwrap_or(pairs));
    let placings = args.layout.map_or(vec![Placing::Random, Placing::Pinned], |placing| vec![placing]);
    let progress = progress::bar(0);
    let (mut cases, mut notes, mut environment) = (Vec::new(), Vec::new(), None);
    for placing in placings {
        let workshop = Workshop::open(placing, stop.clone())?;
        let (kinds, missing) = workshop.runnable(&args.workers, default_kinds(args.quick))?;
        notes.extend(missing.into_iter().filter(|_| environment.is_none()));
        environment = Some(environment::look(&workshop, None));
        cases.extend(
            Round {
                workshop: &workshop,
                placing,
                rounds,
                pairs,
                with_others: !args.quick,
                progress: &progress,
            }
            .run(&kinds)?,
        );
    }
    progress.finish_and_clear();
    notes.extend(how_it_counts());
    let setting = EncodeSetting { rounds, pairs, sharers: SHARERS };
    Ok(EncodeBench { environment: environment.unwrap_or_default(), setting, cases, notes })
}

fn default_kinds(quick: bool) -> &'static [Kind] {
    if quick { &[Kind::Hello, Kind::Pandas] } else { &Kind::ALL }
}

/// All cases with one layout.
struct Round<'a> {
    workshop: &'a Workshop,
    placing: Placing,
    rounds: u64,
    pairs: u64,
    /// Whether bases of other functions are tried as well.
    with_others: bool,
    progress: &'a ProgressBar,
}

impl Round<'_> {
    /// Each function against a process of the same function, and those in Python against the function before it.
    fn run(&self, kinds: &[Kind]) -> Result<Vec<EncodeCase>, BenchError> {
        let mut cases = Vec::new();
        let mut other: Option<(Kind, Image)> = None;
        for &kind in kinds {
            let (base, target) = (self.read(kind)?, self.read(kind)?);
            let mut pairs = vec![self.case((kind, &target), (kind, &base))?];
            for _ in 1..self.pairs {
                pairs.push(self.case((kind, &self.read(kind)?), (kind, &self.read(kind)?))?);
            }
            cases.extend(EncodeCase::median(pairs));
            let may_compare = |other: &Kind| self.with_others && kind.is_python() && other.is_python();
            if let Some((other, image)) = other.as_ref().filter(|(other, _)| may_compare(other)) {
                cases.push(self.case((kind, &target), (*other, image))?);
            }
            other = Some((kind, base));
        }
        Ok(cases)
    }

    fn read(&self, kind: Kind) -> Result<Image, BenchError> {
        self.progress.set_message(format!("{} {}", self.placing.name(), kind.name()));
        if self.workshop.stop.is_asked() {
            Err(BenchError::Interrupted)
        } else {
            Image::of(self.workshop, kind)
        }
    }

    fn case(&self, target: (Kind, &Image), base: (Kind, &Image)) -> Result<EncodeCase, BenchError> {
        let pairing = Pairing::find(target.1, base.1);
        let refused = || BenchError::Ours { doing: "encode", said: "no memory for a compressor".to_owned() };
        let measuring = Measuring::new(target.1, base.1, &pairing).ok_or_else(refused)?;
        let mut encoders = Vec::new();
        for (name, mut encoder) in encoders_compared(base.1).ok_or_else(refused)? {
            if self.workshop.stop.is_asked() {
                return Err(BenchError::Interrupted);
            }
            encoders.push(measuring.measure(name, &mut *encoder, self.rounds)?);
        }
        let (worse_groups, worse_bytes) = measuring.worse_than_page_by_page().ok_or_else(refused)?;
        Ok(EncodeCase {
            layout: self.placing.name().to_owned(),
            worker: target.0.name().to_owned(),
            base: base.0.name().to_owned(),
            content_bytes: target.1.content_bytes(),
            rest_bytes: (pairing.rest.len() * pages::PAGE_SIZE) as u64,
            base_bytes: measuring.base_bytes(),
            relocation_bytes: pairing.relocation.to_bytes().len() as u64,
            relocation_runs: pairing.relocation.run_count() as u64,
            find_us: u64::try_from(pairing.took.as_micros()).unwrap_or(u64::MAX),
            worse_groups,
            worse_bytes,
            stored: stored::stored(target.1)?,
            encoders,
            kept_shares: Vec::new(),
        })
    }
}

type Named = (&'static str, Box<dyn Encoder>);

/// In the order of the table; the last is what dormouse does.
fn encoders_compared(base: &Image) -> Option<Vec<Named>> {
    Some(vec![
        ("lz4, 16 pages", Box::new(Lz4(Scope::All(16)))),
        ("zstd, page by page", Box::new(Zstd::new(Scope::All(1))?)),
        ("zstd, 16 pages", Box::new(Zstd::new(Scope::All(16))?)),
        ("identical pages alone", Box::new(Nothing)),
        ("identical, zstd 16 pages", Box::new(Zstd::new(Scope::Rest(16))?)),
        ("identical, zstd dictionary", Box::new(dictionary::Dictionary::train(&base.pages)?)),
        ("xor, lz4", Box::new(xor::Xor::lz4()?)),
        ("xor, zstd", Box::new(xor::Xor::zstd()?)),
        ("copies, zstd", Box::new(copies::Copies::new()?)),
        ("words and distances, zstd", Box::new(words::Words::new(false)?)),
        ("words relocated, zstd", Box::new(words::Words::new(true)?)),
        ("lz4 after relocated", Box::new(lz4_after::Lz4After)),
        ("zstd after base pages", Box::new(Patch::new(false)?)),
        ("dormouse: after relocated", Box::new(Patch::new(true)?)),
    ])
}

fn how_it_counts() -> [String; 5] {
    [
        format!(
            "kept: share of the pages that are not zero; everything but the base counted: bytes, {} for each piece and 1 \
             for each page, the relocation. With base: plus 1/{SHARERS} of the base process, compressed in groups of 8 pages",
            measure::PIECE_BYTES
        ),
        "identical pages are not kept and take no time, but in the first three rows, which know no base".to_owned(),
        "encode, decode: GB of pages a second on one core; decode begins with the compressed base pages. To find base \
         pages and to learn the relocation is the same for all and stands in `find`"
            .to_owned(),
        "as the store keeps them: all distinct pages in groups of 16 (cold), in groups of 8 (base), and in groups of 8 with \
         LZ4 (hot), where another process has nothing like them; in brackets zstd page by page"
            .to_owned(),
        "every page that was decoded was compared with what it was".to_owned(),
    ]
}

#[cfg(test)]
mod tests;
