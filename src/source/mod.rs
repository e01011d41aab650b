//! What REPO may be, made into a shared bare clone and a revision.
