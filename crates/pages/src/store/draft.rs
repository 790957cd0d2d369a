//! Sorts pages into jobs: what is decoded together is decoded once.

use std::collections::HashMap;
use std::sync::Arc;

use super::PAGES_PER_GROUP;
use super::fill::{FillJob, Wanted};
use super::group::Group;
use crate::page_id::PageId;
use crate::{Arena, PageAddr};

/// Jobs in the making.
pub(super) struct Draft<A: Arena> {
    jobs: Vec<FillJobDraft<A>>,
    /// By address: a number may be given to another group while nobody holds the lock, a group that we hold stays.
    place_of_group: HashMap<*const Group<A>, Place>,
    /// The job of a base group and its patches.
    job_of_base: HashMap<*const Group<A>, usize>,
    /// Neighbours mostly lie in one group.
    last: (*const Group<A>, Place),
}

struct FillJobDraft<A: Arena> {
    groups: Vec<Arc<Group<A>>>,
    wanted: Vec<Wanted>,
}

impl<A: Arena> FillJobDraft<A> {
    /// How many pages are decoded if this group, which has the same base, is one of them.
    fn decoded_pages(&self, more: &Group<A>) -> usize {
        let groups = || self.groups.iter().map(Arc::as_ref).chain([more]);
        let patches: usize =
            groups().filter(|group| group.base.is_some()).map(|group| usize::from(group.pages)).sum();
        let base = groups().find_map(|group| group.base.as_ref().map(|base| base.group.pages));
        patches + usize::from(base.unwrap_or(more.pages))
    }
}

#[derive(Clone, Copy, Default)]
struct Place {
    job: usize,
    group: u8,
}

impl<A: Arena> Draft<A> {
    pub(super) fn new() -> Self {
        let last = (std::ptr::null(), Place::default());
        Self { jobs: Vec::new(), place_of_group: HashMap::new(), job_of_base: HashMap::new(), last }
    }

    /// Adds a page; addresses come upwards.
    pub(super) fn add(&mut self, group: &Arc<Group<A>>, addr: PageAddr, id: PageId, index: u8) {
        if self.last.0 != Arc::as_ptr(group) {
            let place = match self.place_of_group.get(&Arc::as_ptr(group)) {
                Some(place) => *place,
                None => self.enter(group),
            };
            self.last = (Arc::as_ptr(group), place);
        }
        let Place { job, group } = self.last.1;
        self.jobs[job].wanted.push(Wanted { addr, id, group, index });
    }

    fn enter(&mut self, group: &Arc<Group<A>>) -> Place {
        let base = group.common_base();
        let pages = usize::from(group.pages);
        let known = base.and_then(|base| self.job_of_base.get(&base).copied());
        // A fault decodes a whole job, and no more than one group of the largest kind.
        let is_with_others = |job: &usize| self.jobs[*job].decoded_pages(group) <= PAGES_PER_GROUP;
        let job = known.filter(is_with_others).unwrap_or(self.jobs.len());
        if job == self.jobs.len() {
            self.jobs.push(FillJobDraft { groups: Vec::new(), wanted: Vec::with_capacity(pages) });
            base.map(|base| self.job_of_base.insert(base, job));
        }
        let groups = &mut self.jobs[job].groups;
        let place = Place { job, group: groups.len() as u8 };
        groups.push(Arc::clone(group));
        self.place_of_group.insert(Arc::as_ptr(group), place);
        place
    }

    /// All of them. Where a page is wanted so often that the job would not fit into the room to gather it, its groups go
    /// apart.
    pub(super) fn jobs(self) -> Vec<FillJob<A>> {
        let mut jobs = Vec::with_capacity(self.jobs.len());
        for FillJobDraft { groups, wanted } in self.jobs {
            if groups.len() == 1 || wanted.len() <= PAGES_PER_GROUP {
                jobs.push(FillJob { groups, wanted: wanted.into() });
                continue;
            }
            for (nth, group) in (0..).zip(groups) {
                let its = wanted.iter().filter(|wanted| wanted.group == nth);
                let wanted = its.map(|wanted| Wanted { group: 0, ..*wanted }).collect();
                jobs.push(FillJob { groups: vec![group], wanted });
            }
        }
        jobs
    }
}
