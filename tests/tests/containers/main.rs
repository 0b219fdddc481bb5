//! The images as a user gets them, and all of them together by compose.yaml. They are built by `scripts/images.sh prebuilt`, and
//! need a Docker engine, and a build with the feature `containers`: `make test-containers` sees to all of it.

mod compose;
mod crowd;
mod image;
mod sale;
mod shipped;
