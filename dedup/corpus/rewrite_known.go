package corpus

import (
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// texts returns the texts of a row group that the caller of Rewrite has, if column is the column of texts and they say
// all about it: where a text is missing for one reason only.
func (w *rewriter) texts(in *parquetFile, to file.ColumnChunkWriter, column int, row int64, kept *rowSet) RowTexts {
	if column != in.columns.text || w.sink.Texts == nil {
		return nil
	}
	d := to.Descr()
	if _, ok := to.(*file.ByteArrayColumnChunkWriter); !ok || d.MaxRepetitionLevel() > 0 || d.MaxDefinitionLevel() > 1 {
		return nil
	}
	return w.sink.Texts(row, kept.rows)
}

// known writes texts that need not be read.
func (w *rewriter) known(to file.ColumnChunkWriter, texts RowTexts, each func(int64, []byte, bool) error, row int64, kept *rowSet) error {
	c := &columnCopy[parquet.ByteArray]{
		write: to.(*file.ByteArrayColumnChunkWriter).WriteBatch, each: each, maxDef: to.Descr().MaxDefinitionLevel(),
	}
	value, level := make([]parquet.ByteArray, 1), make([]int16, 1)
	rows := 0 // since the last flush
	for c.row < kept.rows {
		if c.row++; !kept.has(c.row - 1) {
			continue
		}
		text, null, err := texts(row + c.row - 1)
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
