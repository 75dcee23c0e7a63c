// Package texts keeps the texts that one pass over the documents has decoded for the passes that come after it, as far as
// memory allows. Decompressing and parsing take several times as long as copying what came out of it, and the main job
// wants texts up to three times: to sign all, to compare candidates, and to write what is kept.
//
// Texts are kept by the split, whole or not at all. Nothing depends on them: who does not find a split here reads it again.
package texts
