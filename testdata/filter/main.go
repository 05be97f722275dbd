// Command filter makes the committed prompt files out of the public one.
//
//	go run ./testdata/filter sd_prompts.jsonl testdata/prompts
//
// It leaves out prompts that are sexual or violent, and those with a living person as their subject. A
// person is found by a list of names and by a given name followed by another word, before the first comma
// or "by": artists who are named for their style come after.
package main

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// sampled is the size of the readable sample, pairs that of the stand-in pairs.
const (
	sampled = 2000
	pairs   = 1000
)

var unwanted = regexp.MustCompile(`\b(?:nude|naked|nudity|sexy|sexual|sex|nsfw|erotic\w*|breasts?|boobs?|cleavage|lingerie|bikini|underwear|thong|topless|` +
	`nipples?|butt|ass|penis|vagina|porn\w*|hentai|lewd|seductive\w*|sensual\w*|voluptuous|busty|curvy|thicc|fetish|bdsm|latex|bondage|stockings|panties|bra|pin-?up|` +
	`undressed|shirtless|swimsuits?|swimwear|hourglass|provocative|attractive|hot (?:girl|woman|man|guy)|gore|gory|blood\w*|bleeding|corpses?|dead (?:body|bodies|man|woman|girl|boy|people)|killed|killing|killer|murder\w*|kill|suicide|` +
	`hitler|nazis?|rape|tortur\w*|decapitated|beheaded|severed|guts|intestines|violen\w+|massacre|wounds?|wounded|stab\w*|knife|execution|executed|hanged|rifles?|guns?|gunfight|pistols?|` +
	`shooting|terroris\w+|bomb\w*|genocide|nuclear|war crimes?|9/11|cannibal\w*|drugs?|cocaine|heroin|meth|smoking weed|teen\w*|loli|young girl|little girl|schoolgirl|voyeur|domme|mistress|bong|exploding|flayed|tempting|partially clothed|catsuit|interracial|legal|suicid\w*|headless|disembowel\w*|dismember\w*|entrails|hell)\b`)

// persons are living people and others who stand for a cause.
var persons = regexp.MustCompile(`\b(?:trump|biden|obama|putin|musk|zuckerberg|kardashian|rihanna|beyonc[eé]|taylor swift|tom cruise|depp|brad pitt|reeves|tom holland|` +
	`emma watson|johansson|portman|gadot|margot robbie|zendaya|stallone|schwarzenegger|gosling|dicaprio|cavill|momoa|the rock|dwayne|nicolas cage|nicholas cage|kanye|drake|` +
	`eminem|elon|merkel|boris johnson|jinping|kim jong|thunberg|bezos|bill gates|clinton|george bush|zelensk\w*|macron|modi|erdogan|bolsonaro|trudeau|pope francis|dalai lama|` +
	`queen elizabeth|king charles|prince harry|meghan|walter white|jesse pinkman|saul goodman|odenkirk|cranston|devito|goldblum|buscemi|bill murray|jim carrey|carrey|elle fanning|` +
	`dakota|madison beer|jessica alba|snoop|affleck|jennifer lawrence|aniston|nicholson|ryan reynolds|sia furler|billie eilish|grimes|lady gaga|madonna|ariana grande|` +
	`selena gomez|katy perry|miley|bieber|ronaldo|messi|lebron|tyson|jordan peterson|joe rogan|rogan|alex jones|ben shapiro|oprah|ellen degeneres|gordon ramsay|` +
	`jeff bezos|tim cook|mark hamill|harrison ford|samuel l|morgan freeman|hanks|willem dafoe|dafoe|cumberbatch|tilda swinton|anya taylor|florence pugh|sydney sweeney|` +
	`natalie|scarlett|christina hendricks|hendricks|charlize|theron|cate blanchett|angelina|jolie|megan fox|mila kunis|kristen|stewart|winona|sigourney|uma thurman|` +
	`pewdiepie|mrbeast|belle delphine|amouranth|pokimane|xqc|logan paul|jake paul|vin diesel|jackie chan|chuck norris|mads mikkelsen|hugh jackman|chris (?:pratt|evans|hemsworth|pine)|` +
	`robert downey|pedro pascal|timoth[eé]e|chalamet|ana de armas|gillian anderson|michael cera|adam sandler|ben stiller|will smith|idris|daniel craig|radcliffe|` +
	`danny|nancy pelosi|bernie|sanders|kamala|desantis|nixon|reagan|kissinger|epstein|cosby|weinstein|jackson|prince|lana del rey|bj[oö]rk|celebrity|politicians?|president|prime minister|hayek|farrell|de niro|vikander|jerma\w*|rowling|kojima|stephen a|nazarbayev|mavrodi|rogen|dangerfield|pegandole|pi[nñ]on fijo|yorke|macdonald|chuckle|earl sweatshirt|sherilyn|fenn|kutcher|spears|sadie sink|atkinson|rapstar|brady bunch|laurel and hardy|supermodel|celebrities)\b`)

// given are given names: with a word after them they name somebody.
var given = regexp.MustCompile(`\b(?:aaron|adam|alan|albert|alex|alexander|alexandra|alice|alison|amanda|amber|amy|andrea|andrew|angela|ann|anna|anne|anthony|anya|ashley|audrey|barbara|` +
	`ben|benedict|benjamin|beth|betty|bill|billy|bob|brad|brandon|brenda|brian|bruce|bryan|carl|carla|carol|caroline|catherine|charles|charlie|charlotte|chris|christian|christina|christine|christopher|claire|` +
	`clint|conan|courtney|cristiano|dan|daniel|danielle|david|deborah|denise|dennis|diana|diane|dolly|donald|dorothy|doug|dylan|ed|eddie|edward|elizabeth|ella|elle|ellen|emilia|emily|emma|eric|erin|ethan|eva|` +
	`evan|evangeline|felicia|frank|fred|gal|gary|george|gerard|gina|greta|hailee|hannah|harry|heath|heather|helen|henry|hillary|hugh|ian|isabella|jack|jackie|jacob|jake|james|jamie|jane|janet|jared|jason|jay|jean|` +
	`jeff|jeffrey|jennifer|jenna|jenny|jeremy|jerry|jesse|jessica|jim|jimmy|joan|joaquin|joe|joel|john|johnny|jon|jonathan|joseph|josh|joshua|juan|julia|julie|justin|karen|karl|kate|katherine|kathy|katie|katy|keanu|` +
	`keira|keith|kelly|ken|kevin|kim|kurt|kyle|larry|laura|lauren|leonardo|liam|lily|linda|lisa|liv|louis|lucas|lucy|luke|marc|margaret|margot|maria|marie|marilyn|mario balotelli|mark|martha|martin|mary|matt|matthew|megan|` +
	`mel|melissa|michael|michelle|mike|mila|miranda|monica|morgan|nancy|naomi|natalia|nathan|neil|nicholas|nick|nicole|nigel|noah|norman|olivia|oscar|owen|pamela|patricia|patrick|paul|pedro|peter|phil|philip|phoebe|rachel|` +
	`ralph|ray|rebecca|ricardo|richard|rick|ricky|rob|robert|robin|roger|ron|rosamund|ross|russell|ryan|sam|samantha|samuel|sandra|sarah|scott|sean|sebastian|shakira|sharon|simon|sophia|sophie|stephanie|stephen|steve|` +
	`steven|stuart|susan|sydney|sylvester|taylor|ted|terry|thomas|tim|timothy|tina|tobey|todd|tom|tommy|tony|tyler|uma|vanessa|victoria|vincent|walter|wesley|will|william|willem|woody|zac|zach|zoe|zooey) [a-z]{3,}`)

// A subject ends where the style begins.
var style = regexp.MustCompile(`[,|;:(]| by | in the style of | art of | inspired by `)

type prompt struct {
	ID     string `json:"id"`
	Prompt string `json:"prompt"`
}

func wanted(text string) bool {
	text = strings.ToLower(text)
	subject := style.Split(text, 2)[0]
	return !unwanted.MatchString(text) && !persons.MatchString(text) && !given.MatchString(subject+" ")
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: filter sd_prompts.jsonl DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "filter:", err)
		os.Exit(1)
	}
}

func run(in, dir string) error {
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	var all []prompt
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var p prompt
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("%s:%d: %w", in, n, err)
		}
		if wanted(p.Prompt) {
			all = append(all, p)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if err := write(filepath.Join(dir, "sd_prompts_all.jsonl.gz"), all); err != nil {
		return err
	}
	// A sample by hash, in the order of the file.
	hash := func(p prompt) string {
		sum := sha256.Sum256([]byte("sample" + p.ID))
		return hex.EncodeToString(sum[:])
	}
	byHash := slices.Clone(all)
	slices.SortFunc(byHash, func(a, b prompt) int { return strings.Compare(hash(a), hash(b)) })
	chosen := map[string]bool{}
	for _, p := range byHash[:sampled] {
		chosen[p.ID] = true
	}
	var sample []prompt
	for _, p := range all {
		if chosen[p.ID] {
			sample = append(sample, p)
		}
	}
	fmt.Printf("%d prompts are wanted, %d in the sample\n", len(all), len(sample))
	if err := write(filepath.Join(dir, "sd_prompts.jsonl"), sample); err != nil {
		return err
	}
	type pair struct {
		ID        string `json:"id"`
		Raw       string `json:"raw"`
		Rewritten string `json:"rewritten"`
	}
	var rows []pair
	for _, p := range byHash {
		raw, _, ok := strings.Cut(p.Prompt, ",")
		if raw = strings.TrimSpace(raw); ok && len(raw) > 8 && len(rows) < pairs {
			rows = append(rows, pair{p.ID, raw, p.Prompt})
		}
	}
	return write(filepath.Join(dir, "pairs.jsonl"), rows)
}

// write writes one JSON object a line; a name in .gz is compressed.
func write[T any](path string, rows []T) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriter(f)
	enc := json.NewEncoder(out)
	if strings.HasSuffix(path, ".gz") {
		z := gzip.NewWriter(out)
		defer z.Close()
		enc = json.NewEncoder(z)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		if err := z.Close(); err != nil {
			return err
		}
		return out.Flush()
	}
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return out.Flush()
}
