//! Which pages are encoded together: those whose base pages lie in the same group.

use super::{BASE_PAGES_PER_GROUP, PATCH_PAGES_PER_GROUP};
use crate::{BaseImage, BasePage, PAGES_PER_GROUP};

/// Pages to encode together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchGroup {
    /// The image and the number of the group of base pages in it; `None` for pages without a base.
    pub base: Option<(BaseImage, u32)>,
    /// Which pages, counted as the bases were given, upwards.
    pub pages: Vec<usize>,
}

impl BasePage {
    /// The group of base pages that it lies in: each holds [`BASE_PAGES_PER_GROUP`] consecutive pages of its image.
    pub fn group(self) -> (BaseImage, u32) {
        (self.image, self.page / BASE_PAGES_PER_GROUP as u32)
    }
}

/// Sorts pages into groups. `bases` says for each page, in the order of addresses, what it is encoded against. Give a
/// megabyte or so at once: pages that follow each other then still lie near each other, and those that went to
/// another place find their group all the same.
pub fn group_by_base(bases: &[Option<BasePage>]) -> Vec<PatchGroup> {
    let mut order: Vec<_> = bases.iter().map(|base| base.map(BasePage::group)).zip(0usize..).collect();
    order.sort_unstable();
    let mut groups: Vec<PatchGroup> = Vec::new();
    for (base, page) in order {
        let most = if base.is_some() { PATCH_PAGES_PER_GROUP } else { PAGES_PER_GROUP };
        match groups.last_mut() {
            Some(group) if group.base == base && group.pages.len() < most => group.pages.push(page),
            _ => groups.push(PatchGroup { base, pages: vec![page] }),
        }
    }
    groups.sort_unstable_by_key(|group| group.pages[0]);
    groups
}
