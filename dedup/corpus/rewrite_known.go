package corpus

import (
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// texts returns what the caller of Rewrite knows of the texts of a row group, or nil.
func (w *rewriter) texts(group int, row int64) *GroupTexts {
	if w.sink.Texts == nil {
		return nil
	}
	return w.sink.Texts(group, row)
}

// knownColumn returns the same for the column that to is, if it is that of the texts and they say all about it: where a
// text is missing for one reason only.
func (w *rewriter) knownColumn(in *parquetFile, to file.ColumnChunkWriter, group, column int, row int64) *GroupTexts {
	if column != in.columns.text {
		return nil
	}
	d := to.Descr()
	if _, ok := to.(*file.ByteArrayColumnChunkWriter); !ok || d.MaxRepetitionLevel() > 0 || d.MaxDefinitionLevel() > 1 {
		return nil
	}
	return w.texts(group, row)
}

// known writes texts that need not be read.
func (w *rewriter) known(to file.ColumnChunkWriter, texts *GroupTexts, each func(int64, []byte, bool) error, row int64, kept *rowSet) error {
	c := &columnCopy[parquet.ByteArray]{
		write: to.(*file.ByteArrayColumnChunkWriter).WriteBatch, each: each, maxDef: to.Descr().MaxDefinitionLevel(),
	}
	value, level := make([]parquet.ByteArray, 1), make([]int16, 1)
	rows := 0 // since the last flush
	for c.row < kept.rows {
		if c.row++; !kept.has(c.row - 1) {
			continue
		}
		text, null, err := texts.At(row + c.row - 1)
		if err != nil {
			return sinkError{err}
		}
		if null && c.maxDef == 0 {
			return changed(&w.set.Files[w.file], "a text is missing that was there")
		}
		value[0], level[0] = text, c.maxDef
		if null {
			level[0] = 0
		}
		if err := c.add(!null, value, 0, 0, level, nil); err != nil {
			return err
		}
		if rows++; rows%copyBatch == 0 {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}
