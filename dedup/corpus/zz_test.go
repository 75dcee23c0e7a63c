package corpus
import ("testing";"github.com/apache/arrow-go/v18/parquet/file";"fmt")
func TestZZ(t *testing.T){
 in,_:=file.OpenParquetFile(fixturePath("wide_pages.parquet"),false)
 for c:=range in.MetaData().Schema.NumColumns() { if in.MetaData().Schema.Column(c).Path()!="tags.list.element" {continue}
  m,_:=in.MetaData().RowGroup(0).ColumnChunk(c)
  fmt.Println(m.NumValues(), m.Encodings())
  pr,_:=in.RowGroup(0).GetColumnPageReader(c)
  for pr.Next() { p:=pr.Page(); fmt.Printf("%T %d %v\n",p,p.NumValues(),p.Encoding()); if d,ok:=p.(file.DataPage);ok { fmt.Println(d.FirstRowIndex(), len(p.Data()), p.Data()) } }
  fmt.Println(pr.Err())
  fmt.Println(rawColumn(t,in,0,c))
 } }
